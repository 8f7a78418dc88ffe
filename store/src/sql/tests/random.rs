//! Whatever is asked is answered or refused: no text and no expression breaks a query's thread.

use super::*;
use crate::tests::Dice;

/// Texts of each sort; `EDGESCALE_FUZZ_SECONDS` goes on for longer.
const ROUNDS: u64 = 150;

const LEAVES: &[&str] = &[
    "name",
    "count",
    "Shoe",
    "1",
    "-1",
    "0",
    "NULL",
    "true",
    "'a'",
    "''",
    "1.5",
    "1e308",
    "9223372036854775807",
    "-9223372036854775808",
    "'2026-01-01'",
    "X'00ff'",
    "INTERVAL '1' DAY",
    "CURRENT_DATE",
    "now()",
    "DATE '2026-02-30'",
    "TIMESTAMP '1970-01-01T00:00:00Z'",
    "(SELECT max(count) FROM hello.visits)",
    "'9999999999999999999999'",
];
const SIGNS: &[&str] = &[
    "+",
    "-",
    "*",
    "/",
    "%",
    "=",
    "<>",
    "<",
    "<=",
    ">",
    ">=",
    "AND",
    "OR",
    "||",
    "LIKE",
    "ILIKE",
    "IS DISTINCT FROM",
    "&",
    "|",
    "^",
    "<<",
    ">>",
    "SIMILAR TO",
    "~",
    "AT TIME ZONE",
];
const FUNCTIONS: &[&str] = &[
    "upper",
    "lower",
    "length",
    "substr",
    "coalesce",
    "nullif",
    "sum",
    "count",
    "avg",
    "min",
    "max",
    "concat",
    "repeat",
    "lpad",
    "replace",
    "strpos",
    "date_trunc",
    "date_part",
    "to_timestamp",
    "chr",
    "array_agg",
    "stddev",
    "median",
    "first_value",
    "row_number",
    "lag",
    "split_part",
    "translate",
    "to_char",
    "date_bin",
    "reverse",
    "initcap",
    "left",
    "right",
    "ascii",
    "greatest",
    "nope",
];
const TYPES: &[&str] =
    &["INT", "BIGINT", "DOUBLE", "TEXT", "BOOLEAN", "DATE", "TIMESTAMP", "DECIMAL(38,10)", "BYTEA"];

/// Numbers only, of which most expressions have a type.
fn sum(dice: &mut Dice, depth: u64) -> String {
    if depth == 0 {
        return dice.of(&["count", "Shoe", "1", "-1", "0", "NULL", "9223372036854775807"]).into();
    }
    let (a, b) = (sum(dice, depth - 1), sum(dice, depth - 1));
    match dice.below(6) {
        0..4 => format!("({a} {} {b})", dice.of(&["+", "-", "*", "/", "%", "&", "|", "<<"])),
        4 => format!("{}({a}, {b})", dice.of(&["coalesce", "nullif", "greatest"])),
        _ => format!("CASE WHEN {a} < {b} THEN {a} ELSE {b} END"),
    }
}

fn expression(dice: &mut Dice, depth: u64) -> String {
    if depth == 0 {
        return dice.of(LEAVES).into();
    }
    let mut part = || {
        let below = dice.below(depth);
        expression(dice, below)
    };
    let (a, b, c) = (part(), part(), part());
    match dice.below(12) {
        0..4 => format!("({a} {} {b})", dice.of(SIGNS)),
        4 => format!("{}({a})", dice.of(FUNCTIONS)),
        5 => format!("{}({a}, {b})", dice.of(FUNCTIONS)),
        6 => format!("{}({a}, {b}, {c})", dice.of(FUNCTIONS)),
        7 => format!("CAST({a} AS {})", dice.of(TYPES)),
        8 => format!("CASE WHEN {a} THEN {b} ELSE {c} END"),
        9 => format!("({a} {}IN ({b}, {c}))", dice.of(&["", "NOT "])),
        10 => format!("({a} BETWEEN {b} AND {c})"),
        _ => format!("{}({a}) OVER (PARTITION BY {b} ORDER BY {c})", dice.of(FUNCTIONS)),
    }
}

fn question(dice: &mut Dice) -> String {
    let (a, b) = match dice.below(2) {
        0 => (expression(dice, 3), expression(dice, 3)),
        _ => (sum(dice, 2), format!("{} {} 0", sum(dice, 3), dice.of(&["<", "=", ">="]))),
    };
    let rest = match dice.below(7) {
        0 => format!("WHERE {b}"),
        1 => format!("GROUP BY {b}"),
        2 => format!("ORDER BY {b} LIMIT 3 OFFSET 1"),
        3 => format!("WHERE name = {b} AND count > 0"),
        4 => format!("GROUP BY name HAVING {b}"),
        5 => format!("UNION ALL SELECT {b}"),
        _ => String::new(),
    };
    let explain = dice.of(&["", "", "", "EXPLAIN ", "EXPLAIN ANALYZE "]);
    format!("{explain}SELECT {a} FROM hello.visits {rest}")
}

fn words(dice: &mut Dice) -> String {
    const WORDS: &[&str] = &[
        "SELECT",
        "FROM",
        "WHERE",
        "GROUP BY",
        "ORDER BY",
        "LIMIT",
        "hello.visits",
        "(",
        ")",
        ",",
        "*",
        "WITH",
        "RECURSIVE",
        "x",
        "AS",
        "JOIN",
        "LATERAL",
        "ON",
        "USING",
        "UNNEST",
        "VALUES",
        "DISTINCT",
        "SHOW",
        "FUNCTIONS",
        "TABLES",
        "LIKE",
        "'%';",
        "DESCRIBE",
        "EXPLAIN",
        ";",
        "\"",
        "'",
        "--",
        "/*",
        "ROLLUP",
        "CUBE",
        "FETCH FIRST 1 ROWS",
        "TABLESAMPLE",
        "PIVOT",
        "QUALIFY",
        "EXCEPT",
        "range(9)",
    ];
    let count = 1 + dice.below(20);
    let word = |dice: &mut Dice| match dice.below(3) {
        0 => dice.of(LEAVES),
        _ => dice.of(WORDS),
    };
    (0..count).map(|_| word(dice)).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn whatever_is_asked_is_answered_or_refused() {
    let seed = crate::entropy() >> 32;
    println!("seed {seed}");
    let mut dice = Dice(seed | 1);
    let store = some_visits().await;
    let longer = std::env::var("EDGESCALE_FUZZ_SECONDS").ok().and_then(|s| s.parse().ok());
    let (started, longer) = (Instant::now(), Duration::from_secs(longer.unwrap_or(0)));
    let (mut round, mut answered) = (0, 0);
    while round < ROUNDS || started.elapsed() < longer {
        round += 1;
        for text in [question(&mut dice), words(&mut dice)] {
            match store.sql(Sql { limit: Some(100), ..query(&text) }).await {
                Ok(answer) => {
                    answered += 1;
                    answer.rows().for_each(drop);
                }
                Err(error) => {
                    let broke = error.to_string().contains("broke its planner");
                    assert!(!broke, "seed {seed}: {text}");
                }
            }
        }
    }
    println!("{answered} of {} answered", round * 2);
    assert!(answered > 0);
    assert_eq!(rows(&store, query("SELECT count(*) FROM hello.visits")).await, json!([[2]]));
}
