//! Tables that change while they have rows: random changes of a table between random writes,
//! flushes and restarts, beside a model that keeps every value.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::spec::Ttl;
use crate::{Commit, Condition, Expect, Write};

const STEPS: u64 = 600;
const KEYS: u64 = 12;
const HOUR_MS: u64 = 3_600_000;

/// A column as the model knows it.
struct Column {
    name: String,
    kind: ColumnKind,
    dropped: bool,
}

struct Evolution {
    seed: u64,
    random: u64,
    machine: Machine,
    config: Config,
    now_ms: Arc<AtomicU64>,
    store: EdgeStore,
    spec: TableSpec,
    columns: Vec<Column>,
    /// Rows by key and time (hours), with the values of all columns.
    rows: BTreeMap<(i64, i64), BTreeMap<String, Value>>,
}

impl Evolution {
    async fn begin(seed: u64) -> Self {
        let now_ms = Arc::new(AtomicU64::new(1_000 * HOUR_MS));
        let clock = now_ms.clone();
        let mut config = Config { segments_max: 3, ..Config::new("", "cloud") };
        config.wall_clock = Arc::new(move || clock.load(Ordering::Relaxed));
        let machine = Machine::new(seed);
        let store = machine.open(config.clone()).await.unwrap();
        let spec = spec(
            r#"{"name":"t","key":["k","at"],"columns":[{"name":"k","kind":"int32"},
            {"name":"at","kind":"timestamp-us"}]}"#,
        );
        store.create_table(&spec).await.unwrap();
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let (columns, rows) = (Vec::new(), BTreeMap::new());
        Evolution { seed, random, machine, config, now_ms, store, spec, columns, rows }
    }

    fn random(&mut self, n: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) % n.max(1)
    }

    async fn step(&mut self) {
        match self.random(20) {
            0..8 => self.write().await,
            8 => self.delete().await,
            9 | 10 => self.add().await,
            11 => self.widen().await,
            12 => self.drop_one().await,
            13 => self.live_shorter().await,
            14 => {
                let hours = self.random(5);
                self.now_ms.fetch_add(hours * HOUR_MS, Ordering::Relaxed);
            }
            15 | 16 => self.store.flush().await.unwrap(),
            17 => {
                self.store.close().await;
                self.store = self.machine.open(self.config.clone()).await.unwrap();
            }
            18 => self.misuse().await,
            _ => self.check().await,
        }
    }

    fn key(&mut self) -> (i64, i64) {
        let now = (self.now_ms.load(Ordering::Relaxed) / HOUR_MS) as i64;
        (self.random(KEYS) as i64 - 3, now - self.random(30) as i64)
    }

    fn value(&mut self, kind: ColumnKind) -> Value {
        let i = [0, 1, -7, i32::MAX as i64, i32::MIN as i64, i64::MAX, i64::MIN];
        let f = [0.0, -0.5, f64::NAN, f64::INFINITY, f64::from(f32::MAX), 0.1, f64::MAX];
        match kind {
            ColumnKind::Int32 => Value::Int(i[self.random(5) as usize]),
            ColumnKind::Int64 => Value::Int(i[self.random(7) as usize]),
            ColumnKind::Float32 => Value::Float(f[self.random(5) as usize]),
            ColumnKind::Float64 => Value::Float(f[self.random(7) as usize]),
            _ => Value::Text(["", "a", "\0"][self.random(3) as usize].into()),
        }
    }

    async fn write(&mut self) {
        let key = self.key();
        let mut row = row! {"k": key.0, "at": key.1 * HOUR_MS as i64 * 1_000};
        let live: Vec<(String, ColumnKind)> = self.live();
        let whole = self.random(2) == 0;
        let mut values = match whole {
            true => BTreeMap::new(),
            false => self.rows.get(&key).cloned().unwrap_or_default(),
        };
        for (name, kind) in live {
            if self.random(3) > 0 {
                let value = self.value(kind);
                row.insert(&name, value.clone());
                values.insert(name, value);
            }
        }
        match whole {
            true => self.store.put("t", &[row]).await.unwrap(),
            false => self.store.patch("t", &[row]).await.unwrap(),
        };
        self.rows.insert(key, values);
    }

    async fn delete(&mut self) {
        let key = self.key();
        let row = row! {"k": key.0, "at": key.1 * HOUR_MS as i64 * 1_000};
        self.store.delete("t", &[row]).await.unwrap();
        self.rows.remove(&key);
    }

    fn live(&self) -> Vec<(String, ColumnKind)> {
        let live = self.columns.iter().filter(|column| !column.dropped);
        live.map(|column| (column.name.clone(), column.kind)).collect()
    }

    async fn change(&mut self, change: impl FnOnce(&mut TableSpec)) {
        change(&mut self.spec);
        self.store.create_table(&self.spec).await.unwrap();
    }

    async fn add(&mut self) {
        if self.live().len() > 6 || self.columns.len() > 40 {
            return;
        }
        use ColumnKind::{Float32, Float64, Int32, Int64, Utf8};
        let kind = [Int32, Float32, Int32, Float32, Int64, Float64, Utf8][self.random(7) as usize];
        let name = format!("c{}", self.columns.len());
        let column = ColumnSpec { name: name.clone(), kind, merge: Merge::Lww, nullable: true };
        self.columns.push(Column { name, kind, dropped: false });
        self.change(|spec| spec.columns.push(column)).await;
    }

    async fn widen(&mut self) {
        let at = self.random(self.columns.len() as u64) as usize;
        let Some(column) = self.columns.get_mut(at).filter(|column| !column.dropped) else {
            return;
        };
        column.kind = match column.kind {
            ColumnKind::Int32 => ColumnKind::Int64,
            ColumnKind::Float32 => ColumnKind::Float64,
            kind => kind,
        };
        let (name, kind) = (column.name.clone(), column.kind);
        self.change(|spec| {
            let column = spec.columns.iter_mut().find(|c| c.name == name).unwrap();
            column.kind = kind;
        })
        .await;
    }

    async fn drop_one(&mut self) {
        let at = self.random(self.columns.len() as u64) as usize;
        let Some(column) = self.columns.get_mut(at).filter(|column| !column.dropped) else {
            return;
        };
        column.dropped = true;
        let name = column.name.clone();
        self.rows.values_mut().for_each(|row| drop(row.remove(&name)));
        self.change(|spec| {
            spec.columns.retain(|c| c.name != name);
            spec.dropped.push(name);
            spec.dropped.sort();
        })
        .await;
    }

    async fn live_shorter(&mut self) {
        let hours = match &self.spec.ttl {
            None => 40,
            Some(ttl) => (ttl.seconds / 3_600 - 1).max(10),
        };
        self.change(|spec| {
            spec.ttl = Some(Ttl { seconds: hours * 3_600, column: "at".into() });
            spec.revision += 1;
        })
        .await;
    }

    /// What must be refused, and change nothing.
    async fn misuse(&mut self) {
        let at = self.random(self.columns.len() as u64) as usize;
        let Some(column) = self.columns.get(at) else { return };
        let (name, kind) = (column.name.clone(), column.kind);
        let mut wrong = self.spec.clone();
        if column.dropped {
            wrong.dropped.retain(|dropped| *dropped != name);
            wrong.columns.push(ColumnSpec {
                name: name.clone(),
                kind,
                merge: Merge::Lww,
                nullable: true,
            });
            let error = self.store.create_table(&wrong).await.unwrap_err();
            assert!(error.to_string().contains("was dropped"), "{error}");
            let row = row! {"k": 1, "at": 1, name.clone(): 1};
            let error = self.store.put("t", &[row]).await.unwrap_err();
            assert!(error.to_string().contains("was dropped"), "{error}");
            let scan = Scan { columns: Some(vec![name]), ..Scan::default() };
            assert!(self.store.scan("t", scan).await.is_err());
            return;
        }
        let other = match kind {
            ColumnKind::Int64 => ColumnKind::Int32,
            ColumnKind::Float64 => ColumnKind::Float32,
            _ => ColumnKind::Bool,
        };
        wrong.columns.iter_mut().find(|c| c.name == name).unwrap().kind = other;
        let error = self.store.create_table(&wrong).await.unwrap_err();
        assert_eq!(error.code(), "incompatible-spec", "{error}");
        if kind == ColumnKind::Int32 {
            let row = row! {"k": 1, "at": 1, name.clone(): 1i64 << 31};
            assert_eq!(self.store.put("t", &[row]).await.unwrap_err().code(), "wrong-type");
        }
    }

    async fn check(&mut self) {
        let now_ms = self.now_ms.load(Ordering::Relaxed);
        let first =
            self.spec.ttl.as_ref().map(|ttl| (now_ms / HOUR_MS - ttl.seconds / 3_600) as i64);
        let names = self.live();
        let shown = |(key, row): (&(i64, i64), &BTreeMap<String, Value>)| {
            let values = names.iter().map(|(name, _)| row.get(name).cloned().unwrap_or_default());
            (*key, values.collect::<Vec<_>>())
        };
        let alive = self.rows.iter().filter(|((_, at), _)| first.is_none_or(|first| *at >= first));
        let expected: Vec<_> = alive.map(shown).collect();
        let found = self.store.scan("t", Scan::default()).await.unwrap().rows;
        let key = |row: &Row| match (&row["k"], &row["at"]) {
            (Value::Int(k), Value::Time(us)) => (*k, us / 1_000 / HOUR_MS as i64),
            other => panic!("{other:?}"),
        };
        let found = found.iter().map(|row| {
            assert_eq!(row.len(), names.len() + 2, "{row:?}");
            (key(row), names.iter().map(|(name, _)| row[name.as_str()].clone()).collect::<Vec<_>>())
        });
        assert_eq!(found.collect::<Vec<_>>(), expected, "seed {}", self.seed);
        let one = self.key();
        let wanted = row! {"k": one.0, "at": one.1 * HOUR_MS as i64 * 1_000};
        let got = self.store.get("t", &wanted).await.unwrap();
        let got = got.map(|row| {
            assert_eq!(row.len(), names.len() + 2, "seed {}: {row:?}", self.seed);
            names.iter().map(|(name, _)| row[name.as_str()].clone()).collect::<Vec<_>>()
        });
        let wanted = expected.iter().find(|(key, _)| *key == one).map(|(_, values)| values.clone());
        assert_eq!(got, wanted, "seed {}", self.seed);
    }
}

/// Two fixed seeds and a new one each time, or the one in `STORE_SEED`.
#[tokio::test]
async fn a_table_that_evolves_shows_what_the_model_does() {
    let seeds = match std::env::var("STORE_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => vec![1, 2, crate::entropy() >> 32],
    };
    for seed in seeds {
        println!("seed {seed}");
        let mut evolution = Evolution::begin(seed).await;
        for _ in 0..STEPS {
            evolution.step().await;
        }
        evolution.check().await;
        assert!(evolution.columns.len() > 10 && evolution.rows.len() > 30, "seed {seed}");
    }
}

#[tokio::test]
async fn rows_that_lived_their_time_are_gone_at_once_and_merges_remove_them() {
    let now_ms = Arc::new(AtomicU64::new(1_000 * HOUR_MS));
    let clock = now_ms.clone();
    let mut config = Config { segments_max: 2, ..Config::new("", "cloud") };
    config.wall_clock = Arc::new(move || clock.load(Ordering::Relaxed));
    let machine = Machine::new(5);
    let store = machine.open(config).await.unwrap();
    let mut spec = motion();
    spec.ttl = Some(Ttl { seconds: 3_600, column: "at".into() });
    store.create_table(&spec).await.unwrap();
    let at = |hour: u64| row! {"camera": "front", "at": hour * HOUR_MS * 1_000, "score": 1};
    for hour in [1_000, 1_002, 1_004, 1_006] {
        let key = motion().key_part(&at(hour));
        store.put("motion", &[at(hour)]).await.unwrap();
        assert!(store.get("motion", &key).await.unwrap().is_some());
        store.flush().await.unwrap();
        now_ms.fetch_add(2 * HOUR_MS, Ordering::Relaxed);
        assert_eq!(store.get("motion", &key).await.unwrap(), None);
        assert_eq!(store.scan("motion", Scan::default()).await.unwrap().rows, []);
        let absent = Commit {
            conditions: vec![Condition { key, expect: Expect::Absent }],
            writes: vec![Write::Put(at(hour))],
        };
        store.commit("motion", &absent).await.unwrap();
    }
    store.flush().await.unwrap();
    let status = &store.tables()[0];
    assert_eq!((status.segments, status.segment_rows), (0, 0));
    let objects = machine.objects.list("t/motion").await.unwrap();
    assert!(objects.iter().all(|name| !name.contains("/s/")), "{objects:?}");
}

#[test]
fn misuse_of_a_definition_is_named() {
    let known = TableSpec { revision: 3, dropped: vec!["old".into()], ..motion() };
    let check = |change: fn(&mut TableSpec), reason: &str| {
        let mut newer = TableSpec { revision: 4, ..motion() };
        change(&mut newer);
        let error = known.check_change(&newer).and_then(|()| newer.validate()).unwrap_err();
        assert!(error.to_string().contains(reason), "{error}");
    };
    let column = |name: &str, kind| ColumnSpec {
        name: name.into(),
        kind,
        merge: Merge::Lww,
        nullable: true,
    };
    known.check_change(&TableSpec { revision: 4, ..motion() }).unwrap();
    check(
        |s| s.columns[2].kind = ColumnKind::Int64,
        "\"score\" is a float and cannot become an integer",
    );
    check(
        |s| s.columns[2].kind = ColumnKind::Float32,
        "\"score\" is a float already, and values are never cut",
    );
    check(|s| s.columns[2].merge = Merge::Max, "\"score\" has another merge rule");
    check(|s| s.columns[0].kind = ColumnKind::Binary, "\"camera\" is of the key");
    check(|s| s.dropped = vec!["at".into()], "\"at\" is of the key, so it stays");
    check(|s| s.key.reverse(), "the key or partition columns differ");
    check(
        |s| s.ttl = Some(Ttl { seconds: 9, column: "score".into() }),
        "ttl counts from \"score\", which is no timestamp-us of the key",
    );
    let again = TableSpec {
        columns: [motion().columns, vec![column("old", ColumnKind::Utf8)]].concat(),
        ..known.clone()
    };
    let again = TableSpec { dropped: Vec::new(), ..again };
    let error = known.check_change(&again).unwrap_err().to_string();
    assert!(error.contains("\"old\" was dropped; give the new one another name"), "{error}");
    let stale = TableSpec { revision: 2, ..again };
    known.check_change(&stale).unwrap();
    assert!(known.evolve(&stale).unwrap().is_dropped("old"), "an older definition changes nothing");
    let short = TableSpec { ttl: Some(Ttl { seconds: 9, column: "at".into() }), ..known.clone() };
    let error = known.check_change(&short).unwrap_err().to_string();
    assert!(error.contains("change it with a higher revision"), "{error}");
    let short = TableSpec { revision: 9, ..short };
    known.check_change(&short).unwrap();
    assert_eq!(known.evolve(&short).unwrap(), short);
    assert_eq!(short.evolve(&known).unwrap(), short, "in either order");
    let small = Limits { partition_bytes_max: Some(1 << 20), table_bytes_max: None };
    let small = TableSpec { limits: small, ..known.clone() };
    known.check_change(&small).unwrap();
    let error = small.check_change(&known).unwrap_err().to_string();
    assert!(error.contains("limits differ; change them with a higher revision"), "{error}");
    let free = TableSpec { revision: 9, ..known.clone() };
    small.check_change(&free).unwrap();
    assert_eq!(small.evolve(&free).unwrap(), free);
    assert_eq!(free.evolve(&small).unwrap(), free, "in either order");
}

/// Sites hear of definitions in any order, and of some twice.
#[test]
fn definitions_join_to_the_same_one_in_any_order() {
    let mut dice = Dice(11);
    for _ in 0..2_000 {
        let mut any = || {
            let seconds = [None, Some(5), Some(9)][dice.below(3) as usize];
            let bytes = [None, Some(1 << 20), Some(1 << 30)][dice.below(3) as usize];
            let group = [vec![], vec![vec!["score".to_owned(), "jpeg".to_owned()]]];
            TableSpec {
                revision: dice.below(3),
                ttl: seconds.map(|seconds| Ttl { seconds, column: "at".into() }),
                limits: Limits { partition_bytes_max: None, table_bytes_max: bytes },
                groups: group[dice.below(2) as usize].clone(),
                dropped: [vec![], vec!["boxes".to_owned()]][dice.below(2) as usize].clone(),
                ..motion()
            }
        };
        let (a, b, c) = (any(), any(), any());
        let joined = |specs: [&TableSpec; 4]| {
            let [first, rest @ ..] = specs;
            rest.iter().fold(first.clone(), |known, spec| known.evolve(spec).unwrap())
        };
        let wanted = joined([&a, &b, &c, &a]);
        for others in [[&a, &c, &b, &b], [&b, &a, &c, &a], [&c, &b, &a, &c], [&b, &c, &a, &a]] {
            assert_eq!(joined(others), wanted);
        }
    }
}
