//! The frontier as a picture: one SVG file that needs nothing else, in the colours of whoever looks at it.

use super::Answer;
use std::fmt::Write;

const WIDTH: f64 = 1120.0;
const PANEL: (f64, f64) = (205.0, 168.0);
const LEFT: f64 = 84.0;
const GAP: f64 = 54.0;
const ROWS: [f64; 2] = [150.0, 424.0];
const HEIGHT: f64 = 740.0;
/// Pauses, and delays of answers, are drawn up to this share of a TTL.
const SHARE: f64 = 15.0;

/// Light first; dark where that is asked for.
const STYLE: &str = "\
svg{--paper:#fff;--ink:#1c2430;--dim:#5b6675;--grid:#d5dbe3;--safe:#0f9d76;--clash:#d6336c;--formula:#1c2430;--late:#b45f06}\
@media(prefers-color-scheme:dark){svg{--paper:#12161c;--ink:#e8edf3;--dim:#9aa6b5;--grid:#313a46;--safe:#34d1a0;--clash:#ff6b9d;--formula:#f5f7fa;--late:#ffb454}}\
.paper{fill:var(--paper)}text{fill:var(--ink);font:12px system-ui,-apple-system,'Segoe UI',Roboto,sans-serif}\
.title{font-size:20px;font-weight:650}.lead{font-size:13px;fill:var(--dim)}.row{font-size:14px;font-weight:600}.head{font-weight:600}\
.tick,.axis{fill:var(--dim);font-size:11px}.clash{fill:var(--clash);fill-opacity:.15}.safe{fill:var(--safe);fill-opacity:.26}\
.frame{fill:none;stroke:var(--grid)}.grid{stroke:var(--grid);stroke-width:.6}.formula{fill:none;stroke:var(--formula);stroke-width:1.6}\
.dot{fill:var(--safe)}.late{fill:none;stroke:var(--late);stroke-width:1.4;stroke-dasharray:5 3}\
.latedot{fill:var(--paper);stroke:var(--late);stroke-width:1.3}.promise{fill:none;stroke:var(--ink);stroke-width:1.1;stroke-dasharray:2 2.5}\
.inside{font-size:11px}";

/// Draws what was measured: a panel per TTL, by drift and then by delay. `formula` is what the holder goes by.
pub fn svg(answers: &[Answer], formula: &str) -> String {
    let mut ttls: Vec<u64> = answers.iter().map(|answer| answer.ttl_us).collect();
    ttls.sort_unstable();
    ttls.dedup();
    let many = ttls.len().max(1) as f64;
    let width = WIDTH.max(LEFT + many * (PANEL.0 + GAP));
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" role=\"img\" aria-labelledby=\"t d\">\n\
         <title id=\"t\">Where time alone stops giving exclusion</title>\n\
         <desc id=\"d\">The longest pause of a process with which two keepers never act under one lease, measured, beside \
         the formula: by drift of clocks, and by delay of answers, for several TTLs.</desc>\n\
         <style>{STYLE}</style>\n<rect class=\"paper\" width=\"{width}\" height=\"{HEIGHT}\"/>\n"
    );
    text(
        &mut svg,
        "title",
        LEFT - 62.0,
        38.0,
        "Where time alone stops giving exclusion",
    );
    let lead = format!(
        "Two keepers of one lease and a store, each with a clock of its own. The holder believes for {formula}, from before it asked."
    );
    text(&mut svg, "lead", LEFT - 62.0, 62.0, &lead);
    let lead = "It reads its clock, pauses, and then acts. How long may it pause until its rival already acts? Beyond the line fences \
                refuse whoever is late.";
    text(&mut svg, "lead", LEFT - 62.0, 81.0, lead);
    let rows = [
        "By drift between the store's clock and the holder's, however late answers are",
        "By how late answers are, at the declared drift",
    ];
    for (row, top) in rows.into_iter().zip(ROWS) {
        text(&mut svg, "row", LEFT - 62.0, top - 32.0, row);
        let (x, y) = (LEFT - 56.0, top + PANEL.1 / 2.0);
        let _ = writeln!(
            svg,
            "<text class=\"axis\" transform=\"translate({x:.1} {y:.1}) rotate(-90)\" text-anchor=\"middle\">longest safe pause</text>"
        );
    }
    for (nth, ttl) in ttls.iter().enumerate() {
        let of: Vec<&Answer> = answers.iter().filter(|answer| answer.ttl_us == *ttl).collect();
        let left = LEFT + nth as f64 * (PANEL.0 + GAP);
        by_drift(&mut svg, left, &of);
        by_delay(&mut svg, left, &of);
    }
    legend(&mut svg);
    svg.push_str("</svg>\n");
    svg
}

/// Where a panel lies, and what its axes go up to.
struct Panel {
    left: f64,
    top: f64,
    x_max: f64,
    y_max: f64,
}

impl Panel {
    fn x(&self, value: f64) -> f64 {
        self.left + PANEL.0 * (value / self.x_max).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        self.top + PANEL.1 * (1.0 - (value / self.y_max).clamp(0.0, 1.0))
    }

    fn path(&self, class: &str, points: &[(f64, f64)]) -> String {
        let each = points
            .iter()
            .map(|(x, y)| format!("{:.1},{:.1}", self.x(*x), self.y(*y)));
        let points: Vec<String> = each.collect();
        format!("<polyline class=\"{class}\" points=\"{}\"/>\n", points.join(" "))
    }

    fn dots(&self, class: &str, points: &[(f64, f64)]) -> String {
        let each = points.iter().map(|(x, y)| {
            let (x, y) = (self.x(*x), self.y(*y));
            format!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.3\"/>\n")
        });
        each.collect()
    }

    /// What lies under the measured points is safe, and the rest is not.
    fn areas(&self, measured: &[(f64, f64)]) -> String {
        let (left, top, (width, height)) = (self.left, self.top, PANEL);
        let place = format!("x=\"{left:.1}\" y=\"{top:.1}\" width=\"{width}\" height=\"{height}\"");
        let mut under = vec![(0.0, 0.0)];
        under.extend(measured);
        under.push((self.x_max, 0.0));
        // Two colours on one place would be a third.
        let (paper, safe) = (self.path("paper", &under), self.path("safe", &under));
        format!("<rect class=\"clash\" {place}/>\n{paper}{safe}<rect class=\"frame\" {place}/>\n")
    }

    fn axes(&self, x_name: &str, x_ticks: &[(f64, String)], y_ticks: &[(f64, String)]) -> String {
        let mut axes = String::new();
        let bottom = self.top + PANEL.1;
        for (value, label) in x_ticks {
            let x = self.x(*value);
            let _ = writeln!(
                axes,
                "<text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
                bottom + 15.0
            );
        }
        for (value, label) in y_ticks {
            let y = self.y(*value);
            let (left, right) = (self.left, self.left + PANEL.0);
            let _ = writeln!(
                axes,
                "<line class=\"grid\" x1=\"{left:.1}\" y1=\"{y:.1}\" x2=\"{right:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
                left - 6.0,
                y + 4.0
            );
        }
        let middle = self.left + PANEL.0 / 2.0;
        let _ = writeln!(
            axes,
            "<text class=\"axis\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{x_name}</text>",
            bottom + 32.0
        );
        axes
    }
}

fn by_drift(svg: &mut String, left: f64, answers: &[&Answer]) {
    let latest = answers.iter().map(|answer| answer.delay_us).max();
    let of: Vec<&&Answer> = answers
        .iter()
        .filter(|answer| !answer.counts_from_answer && Some(answer.delay_us) == latest)
        .collect();
    let Some(first) = of.first() else { return };
    let percent = |answer: &Answer| answer.drift_ppm as f64 / 1e4;
    let panel = Panel {
        left,
        top: ROWS[0],
        x_max: of.iter().map(|answer| percent(answer)).fold(0.1, f64::max),
        y_max: first.ttl_us as f64 / SHARE,
    };
    let head = format!("TTL {}", time(first.ttl_us as f64));
    text(svg, "head", left, panel.top - 9.0, &head);
    let curve = |value: fn(&Answer) -> Option<u64>| -> Vec<(f64, f64)> {
        let points = of.iter();
        let points = points.map(|answer| (percent(answer), value(answer).unwrap_or(0) as f64));
        points.collect()
    };
    let (measured, predicted) = (curve(|of| of.measured_us), curve(|of| of.predicted_us));
    svg.push_str(&panel.areas(&measured));
    let ticks: Vec<(f64, String)> = (0..=3)
        .map(|nth| panel.x_max * f64::from(nth) / 3.0)
        .map(|percent| (percent, format!("{} %", short(percent))))
        .collect();
    svg.push_str(&panel.axes("drift of clocks", &ticks, &y_ticks(panel.y_max)));
    svg.push_str(&panel.path("formula", &predicted));
    svg.push_str(&panel.dots("dot", &measured));
    let promised = of.iter().filter_map(|answer| answer.promised_us).max();
    let (declared, promised) = (first.declared_ppm as f64 / 1e4, promised.unwrap_or(0) as f64);
    let promise = [(0.0, promised), (declared, promised), (declared, 0.0)];
    svg.push_str(&panel.path("promise", &promise));
    text(svg, "inside", panel.x(declared) + 5.0, panel.y(0.0) - 8.0, "safe");
    text(
        svg,
        "inside",
        panel.x(panel.x_max * 0.62),
        panel.y(panel.y_max * 0.82),
        "overlap",
    );
}

fn by_delay(svg: &mut String, left: f64, answers: &[&Answer]) {
    let Some(first) = answers.first() else { return };
    let y_max = first.ttl_us as f64 / SHARE;
    let of: Vec<&&Answer> = answers
        .iter()
        .filter(|answer| answer.drift_ppm == answer.declared_ppm && answer.delay_us as f64 <= y_max)
        .collect();
    let panel = Panel {
        left,
        top: ROWS[1],
        x_max: y_max,
        y_max,
    };
    text(
        svg,
        "head",
        left,
        panel.top - 9.0,
        &format!("TTL {}", time(first.ttl_us as f64)),
    );
    let curve = |from_answer: bool, value: fn(&Answer) -> Option<u64>| -> Vec<(f64, f64)> {
        let points = of
            .iter()
            .filter(|answer| answer.counts_from_answer == from_answer);
        let points = points.map(|answer| (answer.delay_us as f64, value(answer).unwrap_or(0) as f64));
        points.collect()
    };
    let measured = curve(false, |of| of.measured_us);
    svg.push_str(&panel.areas(&measured));
    let ticks = y_ticks(panel.x_max);
    svg.push_str(&panel.axes("delay of answers", &ticks, &ticks));
    svg.push_str(&panel.path("formula", &curve(false, |of| of.predicted_us)));
    svg.push_str(&panel.dots("dot", &measured));
    svg.push_str(&panel.path("late", &curve(true, |of| of.predicted_us)));
    svg.push_str(&panel.dots("latedot", &curve(true, |of| of.measured_us)));
}

fn legend(svg: &mut String) {
    let (top, left) = (ROWS[1] + PANEL.1 + 64.0, LEFT - 62.0);
    let mut line = |x: f64, row: f64, mark: &str, words: &str| {
        let y = top + row * 22.0;
        let _ = writeln!(
            svg,
            "<g transform=\"translate({:.1} {y:.1})\">{mark}</g>",
            left + x
        );
        text(svg, "inside", left + x + 34.0, y + 4.0, words);
    };
    let rule = |class: &str| format!("<polyline class=\"{class}\" points=\"0,0 26,0\"/>");
    let dot = |class: &str| format!("<circle class=\"{class}\" cx=\"13\" cy=\"0\" r=\"2.6\"/>");
    let area = |class: &str| format!("<rect class=\"{class}\" x=\"0\" y=\"-6\" width=\"26\" height=\"12\"/>");
    line(
        0.0,
        0.0,
        &dot("dot"),
        "measured: the longest pause with which no history has an overlap",
    );
    line(
        0.0,
        1.0,
        &rule("formula"),
        "by the formula: (TTL - 1 ms) / (1 + drift) less what the holder believes",
    );
    line(
        0.0,
        2.0,
        &rule("promise"),
        "what is promised: the declared drift, and a pause as long as the margin less 1 ms",
    );
    line(
        540.0,
        0.0,
        &dot("latedot"),
        "measured, for a holder who counts from the answer instead",
    );
    line(540.0, 1.0, &rule("late"), "the same less the delay of the answer");
    line(540.0, 2.0, &area("safe"), "no overlap");
    line(
        660.0,
        2.0,
        &area("clash"),
        "in some history the holder acts when its rival already does",
    );
}

fn y_ticks(max: f64) -> Vec<(f64, String)> {
    let ticks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| max * share);
    ticks.map(|value| (value, time(value))).into()
}

fn text(svg: &mut String, class: &str, x: f64, y: f64, words: &str) {
    let words = words.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{words}</text>"
    );
}

/// A time as people write it: seconds from one on, else milliseconds.
fn time(micros: f64) -> String {
    if micros >= 1e6 {
        format!("{} s", short(micros / 1e6))
    } else if micros == 0.0 {
        "0".to_string()
    } else {
        format!("{} ms", short(micros / 1e3))
    }
}

/// With two places after the point at most, and none that say nothing.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frontier::{Grid, answer};
    use holdfast_core::time::Duration;

    #[test]
    fn every_point_is_drawn_where_it_belongs_and_nothing_outside_its_panel() {
        let grid = Grid {
            ttls: vec![Duration::from_secs(30)],
            drifts_ppm: vec![0, 10_000, 50_000],
            delays: vec![0, 4, 40],
        };
        let answers: Vec<Answer> = grid.points().iter().map(answer).collect();
        let svg = svg(&answers, "ttl");
        // Three drifts, and two delays that are drawn, counted in both ways; two more in the legend.
        assert_eq!(svg.matches("class=\"dot\"").count(), 3 + 2 + 1);
        assert_eq!(svg.matches("class=\"latedot\"").count(), 2 + 1);
        // No drift and no pause is the lower left corner; 1.299 s of 2 s is up there.
        let top = ROWS[0] + PANEL.1 * (1.0 - 1.299 / 2.0);
        assert!(
            svg.contains(&format!("class=\"dot\" cx=\"{LEFT:.1}\" cy=\"{top:.1}\"")),
            "{svg}"
        );
        assert!(!svg.contains("NaN") && !svg.contains("http:// "));
        assert_eq!(svg.matches("http").count(), 1, "the picture asks somebody else");
    }
}
