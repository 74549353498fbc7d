//! Columns, three spaces apart, as kubectl-ate has them.

use clap::builder::styling::Style;

const GAP: usize = 3;

/// One field of a row.
#[derive(Clone, Debug)]
pub struct Cell {
    text: String,
    style: Style,
}

impl Cell {
    /// A text in a colour. What would move the cursor of a terminal is replaced: names come from a server.
    pub fn styled(text: &str, style: Style) -> Cell {
        let text = text
            .chars()
            .map(|c| {
                if c.is_control() {
                    char::REPLACEMENT_CHARACTER
                } else {
                    c
                }
            })
            .collect();
        Cell { text, style }
    }

    fn width(&self) -> usize {
        self.text.chars().count()
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Cell {
        Cell::styled(text, Style::new())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Cell {
        Cell::from(text.as_str())
    }
}

/// The table with `header` above `rows`. Each column is as wide as its widest field, and the last field of
/// a row has nothing after it.
pub fn render<const N: usize>(header: [&str; N], rows: Vec<[Cell; N]>) -> String {
    let rows: Vec<_> = std::iter::once(header.map(Cell::from)).chain(rows).collect();
    let mut widths = [0; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.width().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        for (column, cell) in row.iter().enumerate() {
            let Cell { text: field, style } = cell;
            text += &format!("{style}{field}{style:#}");
            if column + 1 < N {
                text += &" ".repeat(widths[column] - cell.width() + GAP);
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::builder::styling::AnsiColor;

    #[test]
    fn columns_are_as_wide_as_their_widest_field_and_the_last_field_ends_the_line() {
        let rows = vec![
            ["a".into(), "".into(), "é".into()],
            ["long".into(), "wider".into(), "".into()],
        ];
        let lines = ["A      MID     LAST", "a              é", "long   wider   "];
        assert_eq!(render(["A", "MID", "LAST"], rows), lines.join("\n") + "\n");
    }

    #[test]
    fn colour_takes_no_room_and_control_characters_become_visible() {
        let rows = vec![[Cell::styled("x\x1b[2J", AnsiColor::Red.on_default()), "y".into()]];
        assert_eq!(
            render(["1", "2"], rows),
            "1       2\n\x1b[31mx\u{fffd}[2J\x1b[0m   y\n"
        );
    }
}
