//! Tables for people: columns as wide as they must be.

/// Lines of columns, two blanks apart, with a head.
pub(crate) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(str::len);
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|c| shown(c))).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    let mut line = |cells: [&str; N]| {
        let padded = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text += padded.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    };
    line(head);
    for row in &rows {
        line(row.each_ref().map(String::as_str));
    }
    text
}

/// A moment in milliseconds since 1970 as `2026-11-21 13:08:09`, in UTC.
pub(crate) fn moment(millis: u64) -> String {
    let (days, second) = (millis / 86_400_000, millis / 1000 % 86_400);
    // Howard Hinnant's `civil_from_days`: years of 400 years' cycles that begin in March.
    let shifted = days + 719_468;
    let (era, day) = (shifted / 146_097, shifted % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, early) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = year + era * 400 + early;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// Without what a terminal would take for an order.
fn shown(cell: &str) -> String {
    let strange =
        |c: char| c.is_control() || matches!(c, '\u{200e}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    match cell.is_empty() {
        true => "-".to_owned(),
        false => cell.chars().map(|c| if strange(c) { '\u{fffd}' } else { c }).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [["ann".to_owned(), "x".to_owned()], ["robert".to_owned(), String::new()]];
        let text = table(["USER", "NAME"], &rows);
        assert_eq!(text, "USER    NAME\nann     x\nrobert  -\n");
        let text = table(["A"], &[["\u{1b}[31m\u{202e}".to_owned()]]);
        assert_eq!(text, "A\n\u{fffd}[31m\u{fffd}\n");
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (millis, text) in [
            (0, "1970-01-01 00:00:00"),
            (951_827_696_000, "2000-02-29 12:34:56"),
            (1_709_251_199_999, "2024-02-29 23:59:59"),
            (1_795_266_489_000, "2026-11-21 13:08:09"),
            (4_107_542_400_000, "2100-03-01 00:00:00"),
        ] {
            assert_eq!(moment(millis), text);
        }
    }
}
