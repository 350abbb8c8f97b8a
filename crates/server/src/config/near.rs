//! What somebody probably meant: the known name that is nearest to one that is not known.

/// `; did you mean "workers"?`, or nothing when no known name is near.
pub(crate) fn suggestion(name: &str, known: impl Iterator<Item = String>) -> String {
    let last = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let near = known
        .map(|candidate| {
            // `max_conections` at the top level is near `limits.max_connections`.
            let whole = distance(name, &candidate);
            let tail = distance(&last(name), &last(&candidate)) + 1;
            (whole.min(tail), candidate)
        })
        .min_by_key(|(distance, _)| *distance);
    match near {
        Some((distance, candidate)) if distance <= 1 + name.len() / 4 => {
            format!("; did you mean {candidate}?")
        }
        _ => String::new(),
    }
}

/// How many letters have to be inserted, removed, replaced or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::keys::Setting;
    use super::*;

    #[test]
    fn near_names_are_suggested_and_far_ones_are_not() {
        let known = || Setting::all().map(|setting| setting.path());
        assert_eq!(suggestion("wokers", known()), "; did you mean workers?");
        assert_eq!(suggestion("max_conections", known()), "; did you mean limits.max_connections?");
        assert_eq!(suggestion("rooms.flsuh", known()), "; did you mean rooms.flush?");
        assert_eq!(suggestion("colour", known()), "");
    }

    #[test]
    fn distance_counts_edits() {
        for (a, b, expected) in [
            ("", "", 0),
            ("a", "", 1),
            ("flush", "flsuh", 1),
            ("relay", "delay", 1),
            ("ab", "ba", 1),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
