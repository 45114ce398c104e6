//! Draws a text over the one that is on the screen, without clearing it first: a cleared screen
//! flickers.

/// Moves the cursor home.
const HOME: &str = "\x1b[H";
/// Clears the rest of a line.
const CLEAR_LINE: &str = "\x1b[K";
/// Clears what is below the cursor.
const CLEAR_BELOW: &str = "\x1b[J";

/// What to write to a terminal so that it shows `text`, whose lines must be shorter than the terminal
/// is wide. With `rows`, what does not fit is counted in the last line: more lines would scroll, and
/// the next drawing would begin in the wrong place.
#[must_use]
pub fn redraw(text: &str, rows: Option<usize>) -> String {
    let lines: Vec<&str> = text.lines().collect();
    // The cursor takes the last row.
    let room = rows.map_or(usize::MAX, |rows| rows.saturating_sub(1).max(1));
    let shown = if lines.len() > room { room - 1 } else { lines.len() };
    let rest = lines.len() - shown;
    let more = format!("… {rest} more lines; a taller window or --haproxy NAME shows them");
    let lines = lines.into_iter().take(shown).chain((rest > 0).then_some(more.as_str()));
    let mut drawing = String::from(HOME);
    for line in lines {
        drawing.push_str(line);
        drawing.push_str(CLEAR_LINE);
        drawing.push('\n');
    }
    drawing.push_str(CLEAR_BELOW);
    drawing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_drawn_over_the_former_one() {
        let more = |count| {
            format!("… {count} more lines; a taller window or --haproxy NAME shows them\x1b[K\n")
        };
        let table = [
            ("", None, String::new()),
            ("a\nbc\n", None, "a\x1b[K\nbc\x1b[K\n".to_owned()),
            ("a\nb\n", Some(3), "a\x1b[K\nb\x1b[K\n".to_owned()),
            ("a\nb\nc\n", Some(3), format!("a\x1b[K\n{}", more(2))),
            ("a\nb\n", Some(1), more(2)),
            ("a\nb\n", Some(0), more(2)),
        ];
        for (text, rows, expected) in table {
            assert_eq!(redraw(text, rows), format!("\x1b[H{expected}\x1b[J"), "{text:?} {rows:?}");
        }
    }
}
