//! As much XML as answers of IAM and STS need: no attributes that matter, no comments, no entities in what we cut.

/// The text of the first element of this name.
pub fn text(xml: &str, name: &str) -> Option<String> {
    inner(xml, name).map(unescape)
}

/// What the first element of this name holds, as it is written.
pub fn inner<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let open = format!("<{name}>");
    let start = xml.find(&open)? + open.len();
    let end = xml[start..].find(&format!("</{name}>"))? + start;
    Some(&xml[start..end])
}

/// Where the list of an answer is: the content of the first element that holds nothing but `<member>`s.
pub struct Members<'a> {
    /// Everything before the first member.
    pub before: &'a str,
    /// The members, each with its tags.
    pub items: Vec<&'a str>,
    /// Everything after the last member.
    pub after: &'a str,
}

/// Cuts the outermost members out of an answer; `None` when it has none.
pub fn members(xml: &str) -> Option<Members<'_>> {
    let first = xml.find("<member>")?;
    let mut items = Vec::new();
    let mut at = first;
    loop {
        let start = at + xml[at..].len() - xml[at..].trim_start().len();
        if !xml[start..].starts_with("<member>") {
            break;
        }
        let end = element_end(xml, start)?;
        items.push(&xml[start..end]);
        at = end;
    }
    Some(Members {
        before: &xml[..first],
        items,
        after: &xml[at..],
    })
}

/// The place after the `</member>` that closes the `<member>` at `start`.
fn element_end(xml: &str, start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        let open = xml[at..].find("<member>").map(|n| n + at);
        let close = xml[at..].find("</member>").map(|n| n + at)?;
        match open {
            Some(open) if open < close => {
                depth += 1;
                at = open + "<member>".len();
            }
            _ => {
                depth -= 1;
                at = close + "</member>".len();
                if depth == 0 {
                    return Some(at);
                }
            }
        }
    }
}

/// Text as it may stand in an element.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn unescape(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&apos;", "'")
        .replace("&amp;", "&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_inside_members_are_not_cut_apart() {
        let xml = "<Users><member><Tags><member>a</member></Tags></member> <member>b</member></Users><IsTruncated>";
        let found = members(xml).unwrap();
        assert_eq!(found.items.len(), 2);
        assert_eq!(found.before, "<Users>");
        assert_eq!(found.after, "</Users><IsTruncated>");
    }

    #[test]
    fn text_is_given_back_without_its_escapes() {
        assert_eq!(text("<A>x &amp;lt; y</A>", "A").unwrap(), "x &lt; y");
        assert_eq!(text("<A>x</A>", "B"), None);
    }
}
