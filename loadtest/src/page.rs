//! Pages that a person looks at: nothing has to be loaded beside them.

/// A page with a line below its title, text in columns, and pictures, which are `<svg>` elements.
pub(crate) fn page(
    title: &str,
    about: &str,
    text: &str,
    plots: impl IntoIterator<Item = String>,
) -> String {
    let (title, about, text) = (escaped(title), escaped(about), escaped(text));
    let plots: Vec<String> = plots.into_iter().collect();
    format!(
        "<!doctype html>\n<meta charset=\"utf-8\">\n<title>{title}</title>\n\
         <style>body{{font:15px/1.4 sans-serif;margin:2em auto;max-width:70em;color:#222}}\
         pre{{background:#f4f4f4;padding:1em;overflow:auto}}svg{{max-width:100%;height:auto}}</style>\n\
         <h1>{title}</h1>\n<p>{about}</p>\n<pre>{text}</pre>\n{}\n",
        plots.join("\n")
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
