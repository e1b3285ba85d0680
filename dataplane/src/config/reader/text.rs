//! Foreign words: shown safely, and compared with what was meant.

/// Foreign text for a message: bounded, without control characters.
pub fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(48).flat_map(char::escape_debug).collect();
    if text.chars().nth(48).is_some() {
        short.push_str("...");
    }
    short
}

/// The known name that differs from `key` by at most a third of its letters.
pub fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    if key.len() > 64 {
        return None;
    }
    let distance = |name: &&&str| edit_distance(key, name);
    let best = known.iter().min_by_key(distance)?;
    (edit_distance(key, best) * 3 <= best.len().max(3)).then_some(*best)
}

/// Levenshtein's distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_name_is_offered_only_when_near() {
        assert_eq!(nearest("remote_selector", &["remote", "remote_selectors"]), Some("remote_selectors"));
        assert_eq!(nearest("colour", &["name", "local"]), None);
    }
}
