use proptest::prelude::*;

use super::*;
use crate::engine::{Remembered, State};
use crate::record::{self, Batch, Body, Entry, Source};
use crate::row::RowState;
use crate::run::pack::Packed;
use crate::segment::tests::{rows, spec};

fn entry(seq: u64, source: Source, rows: &[(Vec<u8>, RowState)]) -> Entry {
    let (table, columns) = ("all".into(), spec().names.clone());
    Entry { seq, source, body: Body::Rows(Batch { table, columns, rows: rows.to_vec() }) }
}

proptest! {
    /// What is read of an entry is what the decoder makes of it, or nothing.
    #[test]
    fn plain_rows_are_those_of_the_entry(rows in rows(), deleted in any::<bool>()) {
        let rows = rows.into_iter().map(|(key, row)| (key.to_vec(), row.state.clone()));
        let is_plain = |state: &RowState| state.deleted == Stamp::default();
        let rows: Vec<(Vec<u8>, RowState)> =
            rows.filter(|(_, state)| deleted || is_plain(state)).collect();
        let encoded = record::encode(&entry(300, Source::Own, &rows));
        let read = PlainRows::read(&encoded);
        prop_assert_eq!(read.is_some(), rows.iter().all(|(_, state)| is_plain(state)));
        let Some(read) = read else { return Ok(()) };
        prop_assert_eq!((read.seq, read.table.as_str()), (300, "all"));
        prop_assert_eq!(&read.columns, &spec().names);
        let found = read.iter().map(|row| {
            assert_eq!(row.key.hash, hash::of(row.key.key));
            (row.key.key.to_vec(), Packed::of(row.packed).state(row.written))
        });
        prop_assert_eq!(found.collect::<Vec<_>>(), rows.clone());
        let foreign = Source::Child { store: 7, seq: 9 };
        prop_assert!(PlainRows::read(&record::encode(&entry(300, foreign, &rows))).is_none());
        for cut in 0..encoded.len() {
            prop_assert!(PlainRows::read(&encoded[..cut]).is_none());
        }
    }

    /// Carried out, they leave what the entry leaves.
    #[test]
    fn plain_rows_change_memory_as_the_entry_does(batches in prop::collection::vec(rows(), 1..4)) {
        let table = Entry { seq: 1, source: Source::Own, body: Body::Table((**spec()).clone()) };
        let [mut whole, mut plain] = [State::default(), State::default()];
        whole.apply(table.clone()).unwrap();
        plain.apply(table).unwrap();
        for (seq, rows) in (2..).zip(batches) {
            let rows = rows.into_iter().filter(|(_, row)| row.state.deleted == Stamp::default());
            let rows: Vec<_> = rows.map(|(key, row)| (key.to_vec(), row.state.clone())).collect();
            let entry = entry(seq, Source::Own, &rows);
            let read = PlainRows::read(&record::encode(&entry)).unwrap();
            whole.apply(entry).unwrap();
            prop_assert!(plain.apply_plain(&read).unwrap());
        }
        let [whole, plain] = [whole, plain].map(|state| {
            let table = &state.tables["all"];
            let partitions = table.partitions.iter().flat_map(|(partition, rows)| {
                let row = |row: Remembered<'_>| {
                    (partition.to_vec(), row.key().to_vec(), row.versioned())
                };
                rows.active.iter().map(row).collect::<Vec<_>>()
            });
            let rows: Vec<_> = partitions.collect();
            (state.seq, state.clock.last(), state.active_bytes, table.last_seq, rows)
        });
        prop_assert_eq!(whole, plain);
    }

    #[test]
    fn bytes_are_read_as_the_decoder_reads_them_or_not(
        rows in rows(), at in any::<usize>(), bit in 0u8..8,
    ) {
        let rows = rows.into_iter().map(|(key, row)| (key.to_vec(), row.state.clone()));
        let mut encoded = record::encode(&entry(300, Source::Own, &rows.collect::<Vec<_>>()));
        let at = at % encoded.len();
        encoded[at] ^= 1 << bit;
        let Some(read) = PlainRows::read(&encoded) else { return Ok(()) };
        let entry: Entry = record::decode("log entry", &encoded).unwrap();
        let Body::Rows(batch) = entry.body else { panic!("another body") };
        prop_assert_eq!((read.seq, &read.table), (entry.seq, &batch.table));
        prop_assert_eq!(&read.columns, &batch.columns);
        let found = read.iter().map(|row| {
            (row.key.key.to_vec(), Packed::of(row.packed).state(row.written))
        });
        prop_assert_eq!(found.collect::<Vec<_>>(), batch.rows);
    }
}
