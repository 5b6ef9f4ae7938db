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

/// Lines over one axis, as an `<svg>` element; `None` where there is nothing to draw.
pub fn lines(title: &str, x: &str, y: &str, lines: &[Line]) -> Option<String> {
    let points = || lines.iter().flat_map(|line| &line.points);
    let x_max = points().map(|(x, _)| *x).fold(0.0, f64::max);
    let y_max = points().map(|(_, y)| *y).fold(0.0, f64::max);
    if points().count() == 0 || x_max <= 0.0 {
        return None;
    }
    let mut svg = String::new();
    draw(
        &mut svg,
        (title, x, y),
        (x_max, y_max.max(1e-3) * 1.05),
        lines,
    )
    .ok()?;
    Some(svg)
}

fn draw(
    svg: &mut String,
    (title, x, y): (&str, &str, &str),
    (x_max, y_max): (f64, f64),
    lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..x_max, 0.0..y_max)?;
    let mut mesh = chart.configure_mesh();
    mesh.x_desc(x)
        .y_desc(y)
        .light_line_style(TRANSPARENT)
        .draw()?;
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

/// Width and height.
const SIZE: (u32, u32) = (900, 320);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_has_its_lines_and_words_and_nothing_is_no_plot() {
        let some = Line::new("up", vec![(0.0, 1.0), (1.0, 3.0)]);
        let svg = lines("Rate", "s", "1/s", &[some]).unwrap();
        assert!(svg.starts_with("<svg"), "{svg}");
        for word in ["Rate", "1/s", "up", "polyline"] {
            assert!(svg.contains(word), "no {word}");
        }
        assert_eq!(
            lines("Rate", "s", "1/s", &[Line::new("up", Vec::new())]),
            None
        );
    }
}
