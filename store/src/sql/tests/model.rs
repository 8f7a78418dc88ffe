//! On random tables, writes and questions, answers are what plain Rust says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::*;
use crate::Value;

const DAY_US: i64 = 86_400_000_000;

/// A row as plain Rust knows it.
#[derive(Clone, Debug, Default)]
struct Known {
    text: Option<String>,
    count: i64,
    top: Option<i64>,
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u8, Option<u8>, Option<i8>),
    Patch(u8, u8, u8),
    Add(u8, u8, i8),
    Delete(u8, u8),
    Flush,
}

#[derive(Clone, Copy, Debug)]
enum Column {
    Group,
    Day,
    Text,
    Count,
    Top,
}

/// A condition: a comparison, or two conditions joined.
#[derive(Clone, Debug)]
enum Met {
    Compare(Column, &'static str, u8),
    Null(Column),
    Both(Box<Met>, Box<Met>),
    Either(Box<Met>, Box<Met>),
    Not(Box<Met>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = || (0..4u8, 0..6u8);
    let put = (key(), proptest::option::of(0..4u8), proptest::option::of(-3..4i8));
    let step = prop_oneof![
        6 => put.prop_map(|((g, d), text, top)| Step::Put(g, d, text, top)),
        3 => (key(), 0..4u8).prop_map(|((g, d), text)| Step::Patch(g, d, text)),
        3 => (key(), -3..4i8).prop_map(|((g, d), by)| Step::Add(g, d, by)),
        2 => key().prop_map(|(g, d)| Step::Delete(g, d)),
        1 => Just(Step::Flush),
    ];
    proptest::collection::vec(step, 0..60)
}

fn condition() -> impl Strategy<Value = Met> {
    use Column::{Count, Day, Group, Text, Top};
    let column = proptest::sample::select(vec![Group, Group, Day, Day, Text, Count, Top]);
    let op = proptest::sample::select(vec!["=", "=", "<>", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        8 => (column.clone(), op, 0..6u8).prop_map(|(c, op, v)| Met::Compare(c, op, v)),
        1 => column.prop_map(Met::Null),
    ];
    leaf.prop_recursive(3, 8, 2, |met| {
        prop_oneof![
            4 => (met.clone(), met.clone()).prop_map(|(a, b)| Met::Both(a.into(), b.into())),
            2 => (met.clone(), met.clone()).prop_map(|(a, b)| Met::Either(a.into(), b.into())),
            1 => met.prop_map(|met| Met::Not(met.into())),
        ]
    })
}

fn group(g: u8) -> String {
    ["a", "b", "c\0'", "ü"][g as usize % 4].into()
}

fn day(d: u8) -> i64 {
    i64::from(d) * DAY_US
}

fn text(t: u8) -> String {
    ["", "x", "y", "NULL"][t as usize % 4].into()
}

type Table = BTreeMap<(String, i64), Known>;

impl Column {
    fn sql(self) -> &'static str {
        match self {
            Column::Group => "r.g",
            Column::Day => "r.at",
            Column::Text => "r.text",
            Column::Count => "r.count",
            Column::Top => "r.top",
        }
    }

    fn of(self, key: &(String, i64), row: &Known) -> Option<Value> {
        match self {
            Column::Group => Some(key.0.as_str().into()),
            Column::Day => Some(Value::Int(key.1)),
            Column::Text => row.text.as_deref().map(Value::from),
            Column::Count => Some(Value::Int(row.count)),
            Column::Top => row.top.map(Value::Int),
        }
    }

    fn literal(self, v: u8) -> (Value, String) {
        let quoted =
            |text: String| (text.as_str().into(), format!("'{}'", text.replace('\'', "''")));
        match self {
            Column::Group => quoted(group(v)),
            Column::Day => {
                let shown = format!("'1970-01-{:02}T00:00:00Z'", v + 1);
                (Value::Int(day(v)), shown)
            }
            Column::Text => quoted(text(v)),
            _ => (Value::Int(i64::from(v) - 2), (i64::from(v) - 2).to_string()),
        }
    }
}

impl Met {
    fn sql(&self) -> String {
        match self {
            Met::Compare(column, op, v) => {
                format!("{} {op} {}", column.sql(), column.literal(*v).1)
            }
            Met::Null(column) => format!("{} IS NULL", column.sql()),
            Met::Both(a, b) => format!("({} AND {})", a.sql(), b.sql()),
            Met::Either(a, b) => format!("({} OR {})", a.sql(), b.sql()),
            Met::Not(a) => format!("NOT ({})", a.sql()),
        }
    }

    /// True, false, or unknown, as SQL has it.
    fn of(&self, key: &(String, i64), row: &Known) -> Option<bool> {
        match self {
            Met::Null(column) => Some(column.of(key, row).is_none()),
            Met::Compare(column, op, v) => {
                let order = column.of(key, row)?.cmp(&column.literal(*v).0);
                Some(match *op {
                    "=" => order.is_eq(),
                    "<>" => order.is_ne(),
                    "<" => order.is_lt(),
                    "<=" => order.is_le(),
                    ">" => order.is_gt(),
                    _ => order.is_ge(),
                })
            }
            Met::Both(a, b) => match (a.of(key, row), b.of(key, row)) {
                (Some(false), _) | (_, Some(false)) => Some(false),
                (Some(true), Some(true)) => Some(true),
                _ => None,
            },
            Met::Either(a, b) => match (a.of(key, row), b.of(key, row)) {
                (Some(true), _) | (_, Some(true)) => Some(true),
                (Some(false), Some(false)) => Some(false),
                _ => None,
            },
            Met::Not(a) => a.of(key, row).map(|met| !met),
        }
    }
}

fn table(partition: &str) -> TableSpec {
    spec(&format!(
        r#"{{"name":"app_rows","key":["g","at"],"partition":[{partition}],
        "ttl":{{"seconds":432000,"column":"at"}},"columns":[{{"name":"g","kind":"utf8"}},
        {{"name":"at","kind":"timestamp-us"}},{{"name":"text","kind":"utf8"}},
        {{"name":"count","kind":"int64","merge":"counter"}},
        {{"name":"top","kind":"int64","merge":"max"}}]}}"#
    ))
}

fn labels() -> TableSpec {
    spec(
        r#"{"name":"app_labels","key":["g"],"columns":[{"name":"g","kind":"utf8"},
        {"name":"label","kind":"int64"}]}"#,
    )
}

async fn carry_out(store: &EdgeStore, known: &mut Table, step: &Step) {
    let key = |g: &u8, d: &u8| (row! {"g": group(*g), "at": day(*d)}, (group(*g), day(*d)));
    match step {
        Step::Put(g, d, text_, top) => {
            let (mut row, key) = key(g, d);
            let value = |v: Option<Value>| v.unwrap_or(Value::Null);
            row.insert("text", value(text_.map(|t| text(t).into())));
            row.insert("top", value(top.map(|t| Value::Int(t.into()))));
            store.put("app_rows", &[row]).await.unwrap();
            let known = known.entry(key).or_default();
            known.text = text_.map(text);
            known.top = known.top.max(top.map(i64::from));
        }
        Step::Patch(g, d, t) => {
            let (mut row, key) = key(g, d);
            row.insert("text", text(*t).into());
            store.patch("app_rows", &[row]).await.unwrap();
            known.entry(key).or_default().text = Some(text(*t));
        }
        Step::Add(g, d, by) => {
            let (row, key) = key(g, d);
            store.increment("app_rows", &row, &[("count".into(), (*by).into())]).await.unwrap();
            known.entry(key).or_default().count += i64::from(*by);
        }
        Step::Delete(g, d) => {
            let (row, key) = key(g, d);
            store.delete("app_rows", &[row]).await.unwrap();
            known.remove(&key);
        }
        Step::Flush => store.flush().await.unwrap(),
    }
}

fn shown(key: &(String, i64), row: &Known) -> Json {
    let day = key.1 / DAY_US + 1;
    json!([key.0, format!("1970-01-{day:02}T00:00:00Z"), row.text, row.count, row.top])
}

async fn check(store: &EdgeStore, known: &Table, met: &Met, limit: usize) {
    let condition = met.sql();
    let found: Vec<(&(String, i64), &Known)> =
        known.iter().filter(|(key, row)| met.of(key, row) == Some(true)).collect();
    let ask = async |sql: String| rows(store, query(&sql)).await;
    for (order, backwards) in [("r.g, r.at", false), ("r.g DESC, r.at DESC", true)] {
        let mut expected: Vec<Json> = found.iter().map(|(key, row)| shown(key, row)).collect();
        if backwards {
            expected.reverse();
        }
        expected.truncate(limit);
        let sql =
            format!("SELECT * FROM app.rows r WHERE {condition} ORDER BY {order} LIMIT {limit}");
        assert_eq!(ask(sql.clone()).await, Json::Array(expected), "{sql}");
    }
    let mut groups: BTreeMap<&str, (i64, i64, Option<i64>)> = BTreeMap::new();
    for (key, row) in &found {
        let (count, sum, top) = groups.entry(&key.0).or_default();
        *count += 1;
        *sum += row.count;
        *top = (*top).max(row.top);
    }
    let grouped: Vec<Json> =
        groups.iter().map(|(g, (n, sum, top))| json!([g, n, sum, top])).collect();
    let sql = format!(
        "SELECT g, count(*), sum(count), max(top) FROM app.rows r WHERE {condition} \
         GROUP BY g ORDER BY g"
    );
    assert_eq!(ask(sql.clone()).await, Json::Array(grouped), "{sql}");
    let joined: Vec<Json> = found
        .iter()
        .filter_map(|(key, row)| {
            let label = ["a", "ü"].iter().position(|g| *g == key.0)?;
            Some(json!([label, row.count]))
        })
        .collect();
    let sql = format!(
        "SELECT l.label, r.count FROM app.rows r JOIN app.labels l ON r.g = l.g \
         WHERE {condition} ORDER BY r.g, r.at"
    );
    assert_eq!(ask(sql.clone()).await, Json::Array(joined), "{sql}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn answers_are_what_plain_rust_says(
        steps in steps(),
        conditions in proptest::collection::vec((condition(), 0..9usize), 1..5),
        partition in proptest::sample::select(vec!["", "\"g\"", "\"at\"", "\"at\",\"g\""]),
        expired in 0..3u8,
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let now = Arc::new(AtomicU64::new(0));
            let clock = now.clone();
            let mut config = Config::new("", "cloud");
            config.wall_clock = Arc::new(move || clock.load(Ordering::Relaxed));
            let store = Machine::new(1).open(config).await.unwrap();
            store.create_table(&table(partition)).await.unwrap();
            store.create_table(&labels()).await.unwrap();
            let labelled = [row! {"g": "a", "label": 0}, row! {"g": "ü", "label": 1}];
            store.put("app_labels", &labelled).await.unwrap();
            let mut known = Table::new();
            for step in &steps {
                carry_out(&store, &mut known, step).await;
            }
            // Rows live five days; so many of the first days are over.
            now.store(5 * 86_400_000 + day(expired) as u64 / 1_000, Ordering::Relaxed);
            known.retain(|(_, at), _| *at >= day(expired));
            for (met, limit) in &conditions {
                check(&store, &known, met, *limit).await;
            }
        });
    }
}
