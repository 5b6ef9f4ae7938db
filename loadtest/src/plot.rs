//! Plots as SVG.

use plotters::prelude::*;

/// One line of a plot.
#[derive(Clone, Debug)]
pub struct Line {
    name: String,
    points: Vec<(f64, f64)>,
}

impl Line {
    /// A line with its name.
    pub fn new(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self {
            name: name.to_owned(),
            points,
        }
    }
}

/// What the axes say.
#[derive(Clone, Copy, Debug)]
pub struct Axes<'a> {
    /// Of the whole plot.
    pub title: &'a str,
    /// Below.
    pub x: &'a str,
    /// At the left.
    pub y: &'a str,
    /// Names for 0, 1, 2, .. below; without them the numbers are shown.
    pub ticks: &'a [&'a str],
}

/// Lines over one axis, as an `<svg>` element; `None` where there is nothing to draw.
pub fn lines(axes: Axes<'_>, lines: &[Line]) -> Option<String> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x_max = points().map(|(x, _)| *x).fold(0.0, f64::max);
    let y_max = points().map(|(_, y)| *y).fold(0.0, f64::max);
    if points().count() == 0 || x_max <= 0.0 {
        return None;
    }
    let mut svg = String::new();
    let bounds = (x_max, y_max.max(1e-3) * 1.05);
    draw(&mut svg, axes, bounds, lines).ok()?;
    Some(svg)
}

fn draw(
    svg: &mut String,
    axes: Axes<'_>,
    (x_max, y_max): (f64, f64),
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(axes.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..x_max, 0.0..y_max)?;
    let name = |at: &f64| {
        let tick = axes.ticks.get(at.round() as usize);
        tick.map_or_else(|| format!("{at}"), |tick| (*tick).to_owned())
    };
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(axes.x)
        .y_desc(axes.y)
        .light_line_style(TRANSPARENT);
    if !axes.ticks.is_empty() {
        mesh.x_labels(axes.ticks.len()).x_label_formatter(&name);
    }
    mesh.draw()?;
    for (index, line) in lines.iter().enumerate() {
        let colour = Palette99::pick(index).to_rgba();
        let series = LineSeries::new(line.points.iter().copied(), colour.stroke_width(2));
        let drawn = chart.draw_series(series)?.label(&line.name);
        drawn.legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour.stroke_width(2)));
    }
    let mut labels = chart.configure_series_labels();
    let labels = labels
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3));
    labels.position(SeriesLabelPosition::UpperLeft).draw()?;
    root.present()?;
    Ok(())
}

/// One bar of a plot.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Beside it.
    pub name: String,
    /// Bars of one group have one colour.
    pub group: usize,
    /// How long it is.
    pub value: f64,
}

/// Bars from above to below, as an `<svg>` element; `None` where there is nothing to draw.
pub fn bars(title: &str, unit: &str, bars: &[Bar]) -> Option<String> {
    let max = bars.iter().map(|bar| bar.value).fold(0.0, f64::max);
    if max <= 0.0 {
        return None;
    }
    let mut svg = String::new();
    draw_bars(&mut svg, (title, unit), max * 1.05, bars).ok()?;
    Some(svg)
}

fn draw_bars(
    svg: &mut String,
    (title, unit): (&str, &str),
    max: f64,
    bars: &[Bar],
) -> Result<(), Box<dyn std::error::Error>> {
    let rows = u32::try_from(bars.len()).unwrap_or(u32::MAX);
    let size = (
        SIZE.0,
        SIZE.1.max(rows.saturating_mul(BAR).saturating_add(100)),
    );
    let root = SVGBackend::with_string(svg, size).into_drawing_area();
    root.fill(&WHITE)?;
    let height = f64::from(rows);
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .build_cartesian_2d(0.0..max, height..0.0)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(unit).disable_y_axis().disable_y_mesh();
    mesh.light_line_style(TRANSPARENT).draw()?;
    for (place, bar) in (0..).map(f64::from).zip(bars) {
        let colour = Palette99::pick(bar.group).mix(0.5).filled();
        let corners = [(0.0, place + 0.1), (bar.value, place + 0.9)];
        chart.draw_series([Rectangle::new(corners, colour)])?;
        let text = format!("{}: {:.0} {unit}", bar.name, bar.value);
        let at = (max * 0.01, place + 0.4);
        chart.draw_series([Text::new(text, at, ("sans-serif", 15))])?;
    }
    root.present()?;
    Ok(())
}

/// Width and height; where there are many bars it is higher.
const SIZE: (u32, u32) = (900, 320);
/// Height of a bar that its words fit into.
const BAR: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Axes<'_> = Axes {
        title: "Rate",
        x: "s",
        y: "1/s",
        ticks: &[],
    };

    #[test]
    fn a_plot_has_its_lines_and_words_and_nothing_is_no_plot() {
        let some = Line::new("up", vec![(0.0, 1.0), (1.0, 3.0)]);
        let svg = lines(RATE, std::slice::from_ref(&some)).unwrap();
        assert!(svg.starts_with("<svg"), "{svg}");
        for word in ["Rate", "1/s", "up", "polyline", "0.5"] {
            assert!(svg.contains(word), "no {word}");
        }
        let ticks = &["half", "all"];
        let named = lines(Axes { ticks, ..RATE }, &[some]).unwrap();
        assert!(named.contains("half") && named.contains("all"));
        assert_eq!(lines(RATE, &[Line::new("up", Vec::new())]), None);
    }
}
