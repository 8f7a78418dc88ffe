//! `[[handler.input]]` and `[[handler.output]]`. What can be known from the manifest is checked
//! here: tables and their columns, grants, and that every trigger has what an expression reads.

use super::parse::{bounded, is_name, own_table};
use super::reader::{Field, Node};
use super::*;
use crate::binding::{BINDINGS_MAX, Column, Encoding, Input, Output, Sink, Source, Template};

type Result<T> = std::result::Result<T, ManifestError>;

const ENCODINGS: &[(&str, Encoding)] = &[("utf8", Encoding::Utf8), ("base64", Encoding::Base64)];
const SINKS: [&str; 3] = ["table", "event", "blob"];

/// What bindings are checked against.
pub(super) struct Ground<'a> {
    pub(super) tables: &'a [TableSpec],
    pub(super) grants: &'a Grants,
    pub(super) triggers: &'a [Trigger],
    /// Whether the handler is a WSGI application, whose result has parts and no whole.
    pub(super) is_application: bool,
}

pub(super) fn bindings(node: &Node<'_>, ground: &Ground<'_>) -> Result<Bindings> {
    let inputs = node.tables("input", BINDINGS_MAX)?;
    let outputs = node.tables("output", BINDINGS_MAX)?;
    if let Some(first) = inputs.first().or(outputs.first())
        && ground.triggers.iter().any(|trigger| matches!(trigger, Trigger::Stream { .. }))
    {
        return Err(first.wrong("frames of a stream have no bindings; remove it"));
    }
    let mut bindings = Bindings::default();
    for node in &inputs {
        let input = ground.input(node)?;
        if bindings.inputs.iter().any(|other| other.name == input.name) {
            let problem = format!("a second input \"{}\"; give it another name", input.name);
            return Err(node.wrong(problem));
        }
        bindings.inputs.push(input);
    }
    let blobs = outputs.iter().filter_map(|node| node.field("blob")?.text().ok());
    let blobs: Vec<&str> = blobs.collect();
    for node in &outputs {
        bindings.outputs.push(ground.output(node, &blobs)?);
    }
    Ok(bindings)
}

impl Ground<'_> {
    fn input(&self, node: &Node<'_>) -> Result<Input> {
        node.only(&["name", "table", "key"])?;
        let field = node.need("table", "write table = \"my_table\"")?;
        let table = self.table(&field)?;
        let name = match node.field("name") {
            Some(name) => binding_name(&name)?,
            None if table.contains('/') => {
                return Err(node.wrong("no name; write name = \"…\", what the handler finds it by"));
            }
            None => table.clone(),
        };
        let key = self.key(&node.need("key", "write key = \"{data/id}\"")?, &table)?;
        Ok(Input { name, table, key, line: field.line() })
    }

    fn output(&self, node: &Node<'_>, blobs: &[&str]) -> Result<Output> {
        node.only(&["table", "event", "blob", "from", "set", "encoding"])?;
        let mut found = SINKS.iter().filter_map(|kind| Some((*kind, node.field(kind)?)));
        let (kind, field) = found.next().ok_or_else(|| {
            node.wrong(format!("goes nowhere; write one of {}", SINKS.join(", ")))
        })?;
        if let Some((_, second)) = found.next() {
            return Err(second.wrong("a second sink; write another [[handler.output]] for it"));
        }
        for (stray, of) in [("set", "table"), ("encoding", "blob")] {
            if let (Some(stray), true) = (node.field(stray), of != kind) {
                return Err(stray.wrong(format!("only a {of} has this; remove it")));
            }
        }
        let from = node.field("from").map(|field| pointer(&field)).transpose()?.unwrap_or_default();
        if self.is_application && from.is_empty() {
            return Err(node.wrong(
                "a WSGI application has no result of one piece; write from = \"/NAME\" of what it \
                 puts in environ[\"edgescale.outputs\"]",
            ));
        }
        let to = match kind {
            "table" => {
                let table = self.table(&field)?;
                let set = node.field("set").map(|set| self.set(&set, &table, blobs)).transpose()?;
                Sink::Table { table, set: set.unwrap_or_default() }
            }
            "event" => Sink::Event(self.event(&field, blobs)?),
            _ => {
                let name = binding_name(&field)?;
                if blobs.iter().filter(|other| **other == name).count() > 1 {
                    let problem = format!("a second blob \"{name}\"; give it another name");
                    return Err(field.wrong(problem));
                }
                let encoding = node.field("encoding").map(|f| f.choice("encoding", ENCODINGS));
                Sink::Blob { name, encoding: encoding.transpose()?.unwrap_or_default() }
            }
        };
        Ok(Output { to, from, line: field.line() })
    }

    fn table(&self, field: &Field<'_>) -> Result<String> {
        let text = field.text()?;
        if !text.contains('/') {
            return own_table(field, self.tables);
        }
        if self.grants.tables.iter().any(|granted| granted == text) {
            return Ok(text.to_owned());
        }
        Err(field
            .wrong(format!("\"{text}\" is another app's; write it under [grants] tables as well")))
    }

    fn spec(&self, table: &str) -> Option<&TableSpec> {
        self.tables.iter().find(|own| own.name == table)
    }

    /// `key = "…"` where the key is one column, `key = { column = "…" }` anywhere.
    fn key(&self, field: &Field<'_>, table: &str) -> Result<Vec<Column>> {
        let spec = self.spec(table);
        let columns = match (spec, field.text()) {
            (Some(spec), Ok(_)) if spec.key.len() == 1 => {
                vec![self.column(&spec.key[0], field, Some(spec), &[], false)?]
            }
            (_, Ok(_)) => {
                let mend = spec.map_or_else(|| "column".to_owned(), |spec| spec.key.join(", "));
                let problem = "names no column; write key = { … = \"…\" } with each of";
                return Err(field.wrong(format!("{problem} {mend}")));
            }
            (_, Err(_)) => {
                let fields = field.table()?.fields();
                let column = |(name, field): (String, Field<'_>)| {
                    self.column(&name, &field, spec, &[], false)
                };
                fields.into_iter().map(column).collect::<Result<Vec<_>>>()?
            }
        };
        let names: BTreeSet<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        match spec.and_then(|spec| other_key(spec, table, &names)) {
            Some(problem) => Err(field.wrong(problem)),
            _ if columns.is_empty() => Err(field.wrong("empty; give each column of the key")),
            _ => Ok(columns),
        }
    }

    fn set(&self, field: &Field<'_>, table: &str, blobs: &[&str]) -> Result<Vec<Column>> {
        let spec = self.spec(table);
        let column =
            |(name, field): (String, Field<'_>)| self.column(&name, &field, spec, blobs, true);
        field.table()?.fields().into_iter().map(column).collect()
    }

    fn column(
        &self,
        name: &str,
        field: &Field<'_>,
        spec: Option<&TableSpec>,
        blobs: &[&str],
        is_output: bool,
    ) -> Result<Column> {
        let known = spec.map(|spec| spec.columns.iter().find(|column| column.name == name));
        let kind = match (known, spec) {
            (Some(None), Some(spec)) => {
                let names: Vec<&str> = spec.columns.iter().map(|c| c.name.as_str()).collect();
                let names = names.join(", ");
                return Err(field.wrong(format!("unknown column \"{name}\"; use one of {names}")));
            }
            (Some(Some(column)), _) => Some(column.kind),
            _ => None,
        };
        let value = self.template(field, blobs, is_output)?;
        Ok(Column { name: name.to_owned(), value, kind })
    }

    fn event(&self, field: &Field<'_>, blobs: &[&str]) -> Result<Template> {
        let template = self.template(field, blobs, true)?;
        // No grant names this word, so only a `*` or a `>` lets it through.
        let name = template.with_word("expression-of-an-output");
        let (app, topic) = match name.split_once('/') {
            Some((app, topic)) => (Some(app), topic),
            None => (None, name.as_str()),
        };
        bus::subject::check_name(topic).map_err(|error| field.wrong(error.to_string()))?;
        if topic.starts_with('_') {
            return Err(field.wrong("names that begin with _ are the platform's; use another"));
        }
        let Some(app) = app else { return Ok(template) };
        let whole = format!("{app}.{topic}");
        match self.grants.subjects.iter().any(|granted| subject_matches(granted, &whole)) {
            true => Ok(template),
            false => Err(field.wrong(format!(
                "\"{template}\" is another app's; write \"{app}.…\" under [grants] subjects, with \
                 * for each expression"
            ))),
        }
    }

    fn template(&self, field: &Field<'_>, blobs: &[&str], is_output: bool) -> Result<Template> {
        let text = bounded(field, 256)?;
        let template = Template::parse(&text).map_err(|problem| field.wrong(problem))?;
        for source in template.sources() {
            let problem = match source {
                Source::Result(_) | Source::Blob(_) if !is_output => {
                    Some("is not there before the handler runs; outputs may use it".to_owned())
                }
                Source::Blob(name) if !blobs.iter().any(|blob| blob == name) => {
                    Some(format!("is no output's; write another one with blob = \"{name}\""))
                }
                source => self.triggers.iter().find_map(|trigger| lacks(trigger, source)),
            };
            if let Some(problem) = problem {
                return Err(field.wrong(format!("{{{source}}} {problem}")));
            }
        }
        Ok(template)
    }
}

/// Says what the key of a table is, unless it is these columns.
fn other_key(spec: &TableSpec, table: &str, columns: &BTreeSet<&str>) -> Option<String> {
    let key: BTreeSet<&str> = spec.key.iter().map(String::as_str).collect();
    let problem =
        || format!("the key of table \"{table}\" is {}; give each of it", spec.key.join(", "));
    (key != *columns).then(problem)
}

/// Why an expression would find nothing in what a trigger brings.
fn lacks(trigger: &Trigger, source: &Source) -> Option<String> {
    let (what, brings) = match trigger {
        Trigger::Event(pattern) => {
            let least = pattern.split('.').count();
            match source {
                Source::Subject(Some(at)) if *at >= least => {
                    let words = "has not so many tokens; they are counted from 0";
                    return Some(format!("is not in every event \"{pattern}\": it {words}"));
                }
                _ => ("an event", "id, source, time, subject, subject.N and data"),
            }
        }
        Trigger::Call(_) => ("a call", "id, subject and data"),
        Trigger::Cron(_) | Trigger::Table { .. } => ("such a trigger", "id, source, time and data"),
        Trigger::Http(route) => match source {
            Source::Path(name) if !route.parameters().any(|other| other == name) => {
                return Some(format!("is no parameter of \"{route}\"; write {{{name}}} there"));
            }
            _ => ("a request", "id, header.NAME, path.NAME, query.NAME and data"),
        },
        Trigger::Stream { .. } => return None,
    };
    let is_there = match source {
        Source::Id | Source::Data(_) | Source::Result(_) | Source::Blob(_) => true,
        Source::Origin | Source::Time => !matches!(trigger, Trigger::Call(_) | Trigger::Http(_)),
        Source::Subject(None) => matches!(trigger, Trigger::Event(_) | Trigger::Call(_)),
        Source::Subject(Some(_)) => matches!(trigger, Trigger::Event(_)),
        Source::Header(_) | Source::Path(_) | Source::Query(_) => {
            matches!(trigger, Trigger::Http(_))
        }
    };
    (!is_there).then(|| {
        format!("is not in {what}, which has {brings}; give that trigger a handler of its own")
    })
}

fn binding_name(field: &Field<'_>) -> Result<String> {
    let text = field.text()?;
    if is_name(&text.replace('_', "-")) {
        return Ok(text.to_owned());
    }
    Err(field.wrong("is no name; use 1 to 32 of a-z, 0-9, - and _"))
}

fn pointer(field: &Field<'_>) -> Result<String> {
    let text = field.text()?;
    if text.len() > 256 {
        return Err(field.wrong(format!("{} bytes; at most 256 go", text.len())));
    }
    match text.is_empty() || text.starts_with('/') {
        true => Ok(text.to_owned()),
        false => Err(field.wrong(format!("\"{text}\" is no JSON pointer; write \"/{text}\""))),
    }
}

impl Manifest {
    /// Holds when what bindings say of other apps' tables is so; `table` gives the ones that are
    /// known. An app that is not there yet is taken on trust.
    pub fn check_bindings(
        &self,
        table: impl Fn(&str, &str) -> Option<Option<TableSpec>>,
    ) -> Result<()> {
        for (at, handler) in self.handlers.iter().enumerate() {
            for (number, input) in handler.bindings.inputs.iter().enumerate() {
                let field = format!("handler[{at}].input[{number}].key");
                let names = input.key.iter().map(|column| column.name.as_str()).collect();
                check_foreign(&table, &input.table, names, true)
                    .map_err(|problem| ManifestError { line: input.line, field, problem })?;
            }
            for (number, output) in handler.bindings.outputs.iter().enumerate() {
                let Sink::Table { table: name, set } = &output.to else { continue };
                let field = format!("handler[{at}].output[{number}].set");
                let names = set.iter().map(|column| column.name.as_str()).collect();
                check_foreign(&table, name, names, false).map_err(|problem| ManifestError {
                    line: output.line,
                    field,
                    problem,
                })?;
            }
        }
        Ok(())
    }
}

fn check_foreign(
    table: &impl Fn(&str, &str) -> Option<Option<TableSpec>>,
    name: &str,
    columns: BTreeSet<&str>,
    is_key: bool,
) -> std::result::Result<(), String> {
    let Some((app, short)) = name.split_once('/') else { return Ok(()) };
    let Some(found) = table(app, short) else { return Ok(()) };
    let spec = found.ok_or_else(|| format!("app \"{app}\" has no table \"{short}\""))?;
    if let Some(problem) = other_key(&spec, name, &columns).filter(|_| is_key) {
        return Err(problem);
    }
    let is_known = |name: &&&str| spec.columns.iter().any(|column| column.name == **name);
    match columns.iter().find(|name| !is_known(name)) {
        Some(stray) => Err(format!("table \"{name}\" has no column \"{stray}\"")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
