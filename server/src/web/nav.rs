//! The navigation at the top of every page: a few links stand beside each other, many stand in groups, so that they
//! fit a window of 1280 pixels and a phone. A group is a `<details>`, which needs no script.

use crate::auth::visitor::Visitor;
use crate::web::page::Page;

/// Links that stand beside each other at most.
const MOST_FLAT: usize = 6;

/// Who finds a link in their navigation.
type Who = fn(&Visitor) -> bool;

/// Each link: its group, its address and key of the catalogue, who has it, and other places that belong to it.
static LINKS: [(&str, &str, &str, Who, &[&str]); 14] = [
    (
        "label",
        "/work",
        "nav-rank",
        |who| who.is_labeler,
        &["/rank", "/demonstrate", "/review"],
    ),
    (
        "label",
        "/guidelines",
        "nav-guidelines",
        |who| who.is_labeler || who.is_project_admin,
        &[],
    ),
    (
        "label",
        "/tasks",
        "nav-tasks",
        |who| who.is_project_admin,
        &["/gold", "/attention", "/adjudication"],
    ),
    (
        "label",
        "/questions",
        "nav-questions",
        |who| who.is_labeler || who.is_project_admin,
        &[],
    ),
    (
        "data",
        "/projects",
        "nav-projects",
        |who| who.is_project_admin,
        &[],
    ),
    (
        "data",
        "/prompts",
        "nav-prompts",
        |who| who.is_project_admin,
        &[],
    ),
    (
        "data",
        "/agreement",
        "nav-agreement",
        |who| who.is_project_admin,
        &[],
    ),
    (
        "data",
        "/snapshots",
        "nav-snapshots",
        |who| who.is_project_admin || who.is_operator,
        &[],
    ),
    (
        "train",
        "/models",
        "nav-models",
        |who| who.is_project_admin || who.is_operator,
        &[],
    ),
    ("train", "/runs", "nav-runs", |who| who.is_operator, &[]),
    (
        "train",
        "/checkpoints",
        "nav-checkpoints",
        |who| who.is_operator,
        &[],
    ),
    (
        "people",
        "/screening",
        "nav-screening",
        |who| who.is_project_admin || who.news.is_candidate,
        &[],
    ),
    (
        "people",
        "/accounts",
        "nav-accounts",
        |who| who.is_admin,
        &[],
    ),
    (
        "people",
        "/audit",
        "nav-audit",
        |who| who.is_project_admin,
        &[],
    ),
];

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NavLink {
    /// Where it leads.
    pub href: &'static str,
    /// What it says.
    pub label: String,
    /// Whether the page is there, or below.
    pub is_current: bool,
    /// How much there is new.
    pub news: i64,
}

/// A group of links, or a link that stands alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NavGroup {
    /// What it says; nothing where the link stands alone.
    pub label: String,
    /// Its links.
    pub links: Vec<NavLink>,
}

impl NavGroup {
    /// Whether the page is at one of its links.
    pub fn is_current(&self) -> bool {
        self.links.iter().any(|link| link.is_current)
    }

    /// How much there is new behind its links.
    pub fn news(&self) -> i64 {
        self.links.iter().map(|link| link.news).sum()
    }

    /// The link, where it stands alone.
    pub fn alone(&self) -> Option<&NavLink> {
        self.links.first().filter(|_| self.label.is_empty())
    }
}

/// Whether some of them open.
pub fn has_menus(groups: &[NavGroup]) -> bool {
    groups.iter().any(|group| group.alone().is_none())
}

/// What the visitor of a page finds in its navigation.
pub fn groups(page: &Page, visitor: &Visitor) -> Vec<NavGroup> {
    let own = LINKS.iter().filter(|(.., who, _)| who(visitor));
    let is_flat = own.clone().count() <= MOST_FLAT;
    let mut groups: Vec<(&str, NavGroup)> = Vec::new();
    for &(group, href, key, _, others) in own {
        let link = NavLink {
            href,
            label: page.t(key),
            is_current: page.is_at(href) || others.iter().any(|other| page.is_at(other)),
            news: match href {
                "/questions" => visitor.news.n_unread + visitor.news.n_open,
                _ => 0,
            },
        };
        match groups
            .last_mut()
            .filter(|(last, _)| *last == group && !is_flat)
        {
            Some((_, last)) => last.links.push(link),
            None => groups.push((
                group,
                NavGroup {
                    label: page.t(&format!("nav-group-{group}")),
                    links: vec![link],
                },
            )),
        }
    }
    let groups = groups
        .into_iter()
        .map(|(_, group)| match group.links.len() {
            1 => NavGroup {
                label: String::new(),
                ..group
            },
            _ => group,
        });
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::AccountId;
    use crate::i18n::{Lang, find};
    use crate::store::sessions::News;
    use crate::web::page::Theme;

    fn visitor() -> Visitor {
        Visitor {
            account_id: AccountId::new(),
            session_id: None,
            name: String::new(),
            email: String::new(),
            is_labeler: false,
            is_admin: false,
            is_project_admin: false,
            is_operator: false,
            news: News::default(),
        }
    }

    fn told(path: &str, visitor: &Visitor) -> Vec<NavGroup> {
        let page = Page {
            lang: Lang::En,
            theme: Theme::default(),
            title: String::new(),
            visitor: None,
            path: path.to_owned(),
            back: String::new(),
            submitted: None,
        };
        groups(&page, visitor)
    }

    fn labels(groups: &[NavGroup]) -> Vec<&str> {
        let label = |group: &NavGroup| match group.alone() {
            Some(link) => link.href,
            None => ["label", "data", "train", "people"]
                .into_iter()
                .find(|word| {
                    find(Lang::En, &format!("nav-group-{word}")) == Some(group.label.clone())
                })
                .unwrap_or_default(),
        };
        groups.iter().map(label).collect()
    }

    #[test]
    fn a_labeler_has_links_and_an_admin_has_groups() {
        let labeler = Visitor {
            is_labeler: true,
            ..visitor()
        };
        let flat = told("/rank/1", &labeler);
        assert_eq!(labels(&flat), ["/work", "/guidelines", "/questions"]);
        assert!(flat[0].is_current() && !flat[1].is_current());
        let admin = Visitor {
            is_admin: true,
            is_project_admin: true,
            news: News {
                n_open: 2,
                ..News::default()
            },
            ..visitor()
        };
        let grouped = told("/adjudication/1", &admin);
        assert_eq!(labels(&grouped), ["label", "data", "/models", "people"]);
        assert!(grouped[0].is_current() && grouped[0].news() == 2);
        assert!(grouped[1..].iter().all(|group| !group.is_current()));
        let everything = Visitor {
            is_labeler: true,
            is_operator: true,
            ..admin
        };
        let grouped = told("/", &everything);
        assert_eq!(labels(&grouped), ["label", "data", "train", "people"]);
        let n_links: usize = grouped.iter().map(|group| group.links.len()).sum();
        assert_eq!(n_links, LINKS.len());
    }

    #[test]
    fn every_link_and_group_has_its_words_in_both_languages() {
        for lang in Lang::ALL {
            for (group, _, key, ..) in &LINKS {
                assert!(find(lang, key).is_some(), "no {key} in {lang}");
                let key = format!("nav-group-{group}");
                assert!(find(lang, &key).is_some(), "no {key} in {lang}");
            }
        }
    }
}
