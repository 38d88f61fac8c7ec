//! What a page without a script says first after a submission: the address that leads to it has a word on what came
//! of that. The word is one of a few, so that a link from elsewhere can say nothing else here.

/// What was submitted a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Submitted {
    /// A task, as long as it was held.
    InTime,
    /// A task whose lease had ended.
    Late,
    /// A new version of what was submitted before.
    Corrected,
}

/// The name in the query.
const NAME: &str = "submitted";

impl Submitted {
    /// Every one.
    const ALL: [Self; 3] = [Self::InTime, Self::Late, Self::Corrected];

    /// A submission of this version.
    pub fn new(version: i32, is_late: bool) -> Self {
        match (version, is_late) {
            (2.., _) => Self::Corrected,
            (_, true) => Self::Late,
            (_, false) => Self::InTime,
        }
    }

    /// The word in the address.
    fn word(self) -> &'static str {
        match self {
            Self::InTime => "in-time",
            Self::Late => "late",
            Self::Corrected => "corrected",
        }
    }

    /// The key of its sentence in the catalogue.
    pub fn key(self) -> &'static str {
        match self {
            Self::InTime => "work-submitted",
            Self::Late => "work-submitted-late",
            Self::Corrected => "work-corrected",
        }
    }

    /// What the query of an address says.
    pub fn from_query(query: &str) -> Option<Self> {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let (_, word) = pairs.find(|(name, _)| *name == NAME)?;
        Self::ALL.into_iter().find(|one| one.word() == word)
    }

    /// A page's path with the word in its query.
    #[must_use]
    pub fn say_at(self, path: &str) -> String {
        let (path, part) = match path.split_once('#') {
            Some((path, part)) => (path, format!("#{part}")),
            None => (path, String::new()),
        };
        let mark = if path.contains('?') { '&' } else { '?' };
        format!("{path}{mark}{NAME}={}{part}", self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_comes_before_the_part_of_the_page_and_is_read_again() {
        let path = Submitted::Late.say_at("/guidelines#project-1");
        assert_eq!(path, "/guidelines?submitted=late#project-1");
        assert_eq!(
            Submitted::InTime.say_at("/work?a=b"),
            "/work?a=b&submitted=in-time"
        );
        for one in Submitted::ALL {
            let said = format!("a=b&{NAME}={}", one.word());
            assert_eq!(Submitted::from_query(&said), Some(one));
        }
        assert_eq!(Submitted::from_query("submitted=yes"), None);
    }

    #[test]
    fn a_correction_is_never_late() {
        assert_eq!(Submitted::new(1, false), Submitted::InTime);
        assert_eq!(Submitted::new(1, true), Submitted::Late);
        assert_eq!(Submitted::new(2, true), Submitted::Corrected);
    }
}
