//! `[[table]]`: columns, key, how long rows live, and what is gone.

use super::parse::{field_of, short};
use super::reader::{Field, Node};
use super::*;

type Result<T> = std::result::Result<T, ManifestError>;

const KINDS: &[(&str, ColumnKind)] = &[
    ("int64", ColumnKind::Int64),
    ("int32", ColumnKind::Int32),
    ("float64", ColumnKind::Float64),
    ("float32", ColumnKind::Float32),
    ("utf8", ColumnKind::Utf8),
    ("bool", ColumnKind::Bool),
    ("binary", ColumnKind::Binary),
    ("timestamp_us", ColumnKind::TimestampUs),
    ("json", ColumnKind::Json),
];
const MERGES: &[(&str, Merge)] = &[
    ("lww", Merge::Lww),
    ("counter", Merge::Counter),
    ("max", Merge::Max),
    ("min", Merge::Min),
    ("set", Merge::Set),
];

pub(super) fn tables(root: &Node<'_>) -> Result<Vec<TableSpec>> {
    let mut tables: Vec<TableSpec> = Vec::new();
    for node in root.tables("table", TABLES_MAX)? {
        let table = table(&node)?;
        if tables.iter().any(|other| other.name == table.name) {
            let problem = format!("a second table \"{}\"; give it another name", table.name);
            return Err(field_of(&node, "name").wrong(problem));
        }
        tables.push(table);
    }
    Ok(tables)
}

fn table(node: &Node<'_>) -> Result<TableSpec> {
    node.only(&[
        "name",
        "columns",
        "key",
        "partition",
        "ttl",
        "ttl_column",
        "drop",
        "limits",
        "groups",
    ])?;
    let name = column_name(&node.need("name", "write name = \"my_table\"")?)?;
    let mut columns = columns(node)?;
    let key_field = node.need("key", "write key = [\"column\", …]")?;
    let key = column_list(&key_field, &columns)?;
    if key.is_empty() {
        return Err(key_field.wrong("empty; name at least one column"));
    }
    let partition = match node.field("partition") {
        Some(field) => partition(&field, &columns, &key)?,
        None => Vec::new(),
    };
    for column in columns.iter_mut().filter(|column| key.contains(&column.name)) {
        if column.merge != Merge::Lww || column.kind == ColumnKind::Json {
            let problem = "a key column is neither json nor merged; change it or the key";
            return Err(key_field.wrong(format!("\"{}\": {problem}", column.name)));
        }
        column.nullable = false;
    }
    let ttl = ttl(node, &columns, &key)?;
    let (dropped, limits) = (dropped(node, &columns)?, limits(node)?);
    let groups = match node.field("groups") {
        Some(field) => field.list()?.iter().map(|group| column_list(group, &columns)).collect(),
        None => Ok(Vec::new()),
    }?;
    let revision = 0;
    let table = TableSpec { name, columns, key, partition, ttl, dropped, revision, limits, groups };
    table.validate().map_err(|error| node.wrong(error.to_string()))?;
    Ok(table)
}

/// `ttl`, counted from the one time column of the key, or from the one that `ttl_column` names.
fn ttl(node: &Node<'_>, columns: &[ColumnSpec], key: &[String]) -> Result<Option<Ttl>> {
    let named = node.field("ttl_column");
    let Some(field) = node.field("ttl") else {
        return match named {
            Some(named) => Err(named.wrong("there is no ttl; write one, or remove this line")),
            None => Ok(None),
        };
    };
    let seconds = seconds(&field)?;
    let is_time = |name: &&String| {
        columns.iter().any(|c| c.name == **name && c.kind == ColumnKind::TimestampUs)
    };
    let times: Vec<&String> = key.iter().filter(is_time).collect();
    let column = match (named, &times[..]) {
        (_, []) => {
            return Err(field.wrong(
                "rows live from a time in their key, and this key has none; put a timestamp_us \
                 column into the key",
            ));
        }
        (None, [one]) => (*one).clone(),
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|name| name.as_str()).collect();
            return Err(field.wrong(format!(
                "the key has several times; write ttl_column = one of {}",
                names.join(", ")
            )));
        }
        (Some(named), times) => {
            let choices: Vec<(&str, &str)> =
                times.iter().map(|n| (n.as_str(), n.as_str())).collect();
            named.choice("time column of the key", &choices)?.to_owned()
        }
    };
    Ok(Some(Ttl { seconds, column }))
}

/// A duration such as `"90s"`, `"30m"`, `"12h"` or `"30d"`, in seconds.
fn seconds(field: &Field<'_>) -> Result<u64> {
    let text = field.text()?;
    let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
    let found = units.iter().find_map(|(unit, seconds)| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*seconds)
    });
    found.filter(|seconds| (1..=TTL_SECONDS_MAX).contains(seconds)).ok_or_else(|| {
        let text = short(text);
        field
            .wrong(format!("\"{text}\" is no time; write a number and s, m, h or d, as in \"30d\""))
    })
}

/// How large the table may become at a site.
fn limits(node: &Node<'_>) -> Result<store::Limits> {
    let Some(node) = node.table("limits")? else { return Ok(store::Limits::default()) };
    node.only(&["partition_bytes_max", "table_bytes_max"])?;
    let bytes = |name: &str| {
        node.field(name).map(|field| field.whole(store::LIMIT_BYTES, "bytes")).transpose()
    };
    let partition_bytes_max = bytes("partition_bytes_max")?;
    Ok(store::Limits { partition_bytes_max, table_bytes_max: bytes("table_bytes_max")? })
}

/// Names of columns that are gone for good.
fn dropped(node: &Node<'_>, columns: &[ColumnSpec]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let entries = node.field("drop").map(|field| field.list()).transpose()?;
    for entry in entries.unwrap_or_default() {
        let name = column_name(&entry)?;
        if columns.iter().any(|column| column.name == name) {
            let problem = format!("\"{name}\" is among the columns as well; remove it there");
            return Err(entry.wrong(problem));
        }
        names.push(name);
    }
    names.sort();
    names.dedup();
    Ok(names)
}

fn columns(node: &Node<'_>) -> Result<Vec<ColumnSpec>> {
    let field = node.need("columns", "write columns = [{ name = \"…\", type = \"…\" }]")?;
    let mut columns: Vec<ColumnSpec> = Vec::new();
    for node in node.tables("columns", COLUMNS_MAX)? {
        let column = column(&node)?;
        if columns.iter().any(|other| other.name == column.name) {
            let problem = format!("a second column \"{}\"; give it another name", column.name);
            return Err(field_of(&node, "name").wrong(problem));
        }
        columns.push(column);
    }
    if columns.is_empty() {
        return Err(field.wrong("empty; a table has at least one column"));
    }
    Ok(columns)
}

fn column(node: &Node<'_>) -> Result<ColumnSpec> {
    node.only(&["name", "type", "merge", "nullable"])?;
    let name = column_name(&node.need("name", "write name = \"…\"")?)?;
    let types: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
    let need_type = format!("write type = one of {}", types.join(", "));
    let kind = node.need("type", &need_type)?.choice("type", KINDS)?;
    let merge = match node.field("merge") {
        Some(field) => merge(&field, kind)?,
        None => Merge::Lww,
    };
    let nullable = node.field("nullable").map(|field| field.truth()).transpose()?;
    Ok(ColumnSpec { name, kind, merge, nullable: nullable.unwrap_or(true) })
}

fn merge(field: &Field<'_>, kind: ColumnKind) -> Result<Merge> {
    let merge = field.choice("merge rule", MERGES)?;
    let problem = match (merge, kind) {
        (Merge::Counter, kind) if kind != ColumnKind::Int64 => "counters are int64",
        (Merge::Max | Merge::Min, ColumnKind::Json) => "json has no order",
        (Merge::Set, ColumnKind::Json) => "json cannot be an element of a set",
        _ => return Ok(merge),
    };
    Err(field.wrong(format!("{problem}; change the type or the rule")))
}

fn column_list(field: &Field<'_>, columns: &[ColumnSpec]) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for entry in field.list()? {
        let name = entry.text()?;
        if !columns.iter().any(|column| column.name == name) {
            let known: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            let known = known.join(", ");
            return Err(entry.wrong(format!("unknown column \"{name}\"; use one of {known}")));
        }
        if names.iter().any(|other| other == name) {
            return Err(entry.wrong(format!("\"{name}\" stands twice; remove one")));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn partition(field: &Field<'_>, columns: &[ColumnSpec], key: &[String]) -> Result<Vec<String>> {
    let names = column_list(field, columns)?;
    match names.iter().find(|name| !key.contains(name)) {
        Some(stray) => {
            Err(field.wrong(format!("\"{stray}\" is not in the key; add it there or remove it")))
        }
        None => Ok(names),
    }
}

fn column_name(field: &Field<'_>) -> Result<String> {
    let text = field.text()?;
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
    if starts && text.len() <= 32 && text.chars().all(is_part) {
        return Ok(text.to_owned());
    }
    let text = short(text);
    Err(field.wrong(format!("\"{text}\" is no name; use a letter and up to 31 of a-z, 0-9 and _")))
}
