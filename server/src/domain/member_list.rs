//! A list of people to assign to a project, as it is pasted: one a line, `e-mail`, or with a name and
//! languages after commas.

use crate::domain::language::primary_tag;
use crate::error::FieldError;
use crate::message::Message;

/// Most lines of a list.
pub const MOST_LINES: usize = 1000;

/// Most languages of a labeler.
const MOST_LANGUAGES: usize = 20;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its number, from 1.
    pub line: usize,
    /// The address.
    pub email: String,
    /// The name; the part of the address before the @ where the list has none.
    pub name: String,
    /// Primary tags of languages; empty is any.
    pub languages: Vec<String>,
}

/// Reads languages: primary tags such as `zh`, with blanks or commas between them; nothing is any.
///
/// # Errors
/// When one of them is no such tag.
pub fn read_languages(text: &str) -> Result<Vec<String>, Message> {
    let mut languages: Vec<String> = Vec::new();
    let words = text.split(|letter: char| letter.is_whitespace() || ",;、，".contains(letter));
    for word in words.filter(|word| !word.is_empty()) {
        let tag = primary_tag(word).filter(|_| languages.len() < MOST_LANGUAGES);
        let tag = tag.ok_or(Message::new("error-not-languages"))?;
        if !languages.contains(&tag) {
            languages.push(tag);
        }
    }
    Ok(languages)
}

/// Reads a list; blank lines are passed over.
///
/// # Errors
/// Every wrong line, named by its number.
pub fn read(text: &str) -> Result<Vec<Listed>, Vec<FieldError>> {
    let (mut listed, mut errors) = (Vec::<Listed>::new(), Vec::new());
    let lines = text.lines().map(str::trim).enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty()) {
        let number = index + 1;
        let mut wrong =
            |message: Message| errors.push(FieldError::new(number.to_string(), message));
        let mut cells = line.splitn(3, ',').map(str::trim);
        let email = cells.next().unwrap_or_default().to_lowercase();
        let name = cells.next().filter(|name| !name.is_empty());
        let name = name.or_else(|| email.split('@').next()).unwrap_or_default();
        if !email.contains('@') || email.contains(char::is_whitespace) {
            wrong(Message::new("error-not-an-email"));
        } else if listed.iter().any(|other| other.email == email) {
            wrong(Message::new("error-comes-twice"));
        } else if listed.len() == MOST_LINES {
            wrong(Message::new("error-too-many-lines").with("most", MOST_LINES));
            break;
        } else {
            match read_languages(cells.next().unwrap_or_default()) {
                Ok(languages) => listed.push(Listed {
                    line: number,
                    name: name.to_owned(),
                    email,
                    languages,
                }),
                Err(message) => wrong(message),
            }
        }
    }
    if listed.is_empty() && errors.is_empty() {
        errors.push(FieldError::new("1", Message::new("error-no-lines")));
    }
    match errors.is_empty() {
        true => Ok(listed),
        false => Err(errors),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    #[test]
    fn an_address_is_enough_and_a_name_and_languages_may_follow() {
        let listed =
            read("Ada@example.org\n\n  bob@example.org, Bob B., en zh \neve@example.org,,de\n")
                .unwrap();
        let one = |line, email: &str, name: &str, languages: &[&str]| Listed {
            line,
            email: email.to_owned(),
            name: name.to_owned(),
            languages: languages.iter().map(|tag| (*tag).to_owned()).collect(),
        };
        let expected = [
            one(1, "ada@example.org", "ada", &[]),
            one(3, "bob@example.org", "Bob B.", &["en", "zh"]),
            one(4, "eve@example.org", "eve", &["de"]),
        ];
        assert_eq!(listed, expected);
    }

    #[test]
    fn every_wrong_line_is_named_by_its_number() {
        let errors = read("ada\nbob@example.org\nBOB@example.org\neve@example.org, Eve, klingon\n")
            .unwrap_err();
        let lines: Vec<&str> = errors.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(lines, ["1", "3", "4"]);
        assert_eq!(read(" \n").unwrap_err().len(), 1);
    }

    #[test]
    fn languages_are_primary_tags_each_once() {
        assert_eq!(
            read_languages("EN, zh；").unwrap_err(),
            Message::new("error-not-languages")
        );
        assert_eq!(read_languages(" EN zh,en").unwrap(), ["en", "zh"]);
        assert!(read_languages("").unwrap().is_empty());
        assert_eq!(read_languages("en-US").unwrap(), ["en"]);
        assert!(read_languages("english").is_err());
    }
}
