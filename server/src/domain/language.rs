//! Languages of texts and of labelers, by which tasks find those who read them.

/// The primary tag of a language, in lower case: `zh` of `zh-CN`, `ZH` or `zh_CN`. None where `tag` is no
/// such tag (BCP 47 has two or three letters for it).
pub fn primary_tag(tag: &str) -> Option<String> {
    let mut parts = tag.trim().split(['-', '_']);
    let primary = parts.next()?.to_ascii_lowercase();
    let is_tag =
        (2..=3).contains(&primary.len()) && primary.bytes().all(|byte| byte.is_ascii_lowercase());
    let are_subtags = parts.all(|part| {
        (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    });
    (is_tag && are_subtags).then_some(primary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_its_primary_part_in_lower_case_and_a_name_is_none() {
        for tag in ["zh", " ZH", "zh-CN", "zh_Hans_CN"] {
            assert_eq!(primary_tag(tag).as_deref(), Some("zh"));
        }
        assert_eq!(primary_tag("yue").as_deref(), Some("yue"));
        for other in ["", "z", "english", "zh-", "中文", "zh CN"] {
            assert_eq!(primary_tag(other), None, "{other}");
        }
    }
}
