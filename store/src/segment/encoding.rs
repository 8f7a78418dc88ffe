//! How columns are written: in few bytes, and so that they are soon read.
//!
//! Whole numbers and times whose neighbours are close are written as differences, columns of few
//! values as numbers of these. Which those are a sample of the rows tells.

use std::collections::HashSet;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use crate::spec::{ColumnKind, ColumnSpec, TableSpec};

use super::{HIDDEN, STAMPS};

const ROW_GROUP_ROWS: usize = 64 * 1024;
/// Rows of a page.
pub const PAGE_ROWS: usize = 8 * 1024;

/// Rows of a column that are looked at.
const SAMPLE_ROWS: usize = 4_096;
/// Of these so many have a value that another has as well, where there are few values.
const ALIKE_MIN: usize = SAMPLE_ROWS / 2;
/// Rows of a block of differences that are looked at, as the format has them.
const BLOCK_ROWS: usize = 32;
/// Differences have so many bits on average, where they take less than the values.
const BITS_MAX: usize = 32;

/// How files of a table are written; `rows` are some of those that they will have.
pub fn properties(spec: &TableSpec, rows: Option<&RecordBatch>) -> WriterProperties {
    let properties = WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_created_by("edgescale store 1".into());
    let how = |column: &ColumnSpec| match rows.and_then(|rows| rows.column_by_name(&column.name)) {
        Some(array) => how(array),
        None if spec.is_key(&column.name) && is_whole_number(column) => How::Differences,
        None => How::Plain,
    };
    let properties = spec.shown().fold(properties, |all, column| {
        let path = vec![column.name.clone()].into();
        match how(column) {
            How::Plain => all,
            How::Differences => all.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
            How::FewValues => all.set_column_dictionary_enabled(path, true),
        }
    });
    let path = |name: &str| vec![name.to_owned()].into();
    let properties = STAMPS.iter().fold(properties, |all, name| {
        all.set_column_encoding(path(name), Encoding::DELTA_BINARY_PACKED)
    });
    let none = EnabledStatistics::None;
    let hidden = HIDDEN.iter().map(|name| path(name));
    hidden.fold(properties, |all, path| all.set_column_statistics_enabled(path, none)).build()
}

fn is_whole_number(column: &ColumnSpec) -> bool {
    matches!(column.kind, ColumnKind::Int64 | ColumnKind::TimestampUs)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Plain,
    Differences,
    FewValues,
}

fn how(array: &ArrayRef) -> How {
    match array.data_type() {
        DataType::Int64 => of_numbers(array.as_primitive::<Int64Type>().values()),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            of_numbers(array.as_primitive::<TimestampMicrosecondType>().values())
        }
        DataType::Float64 => {
            let floats = array.as_primitive::<Float64Type>().values();
            of_values(floats.len(), |i| floats[i].to_bits())
        }
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            of_values(texts.len(), |i| texts.value(i))
        }
        DataType::Binary => {
            let bytes = array.as_binary::<i32>();
            of_values(bytes.len(), |i| bytes.value(i))
        }
        _ => How::Plain,
    }
}

fn of_numbers(numbers: &[i64]) -> How {
    let bits = |block: &[i64; BLOCK_ROWS]| {
        let steps = block.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]));
        let (least, most) =
            steps.fold((i64::MAX, i64::MIN), |(a, b), step| (a.min(step), b.max(step)));
        (i64::BITS - most.wrapping_sub(least).leading_zeros()) as usize
    };
    let blocks = numbers.as_chunks::<BLOCK_ROWS>().0;
    let every = (blocks.len() * BLOCK_ROWS).div_ceil(SAMPLE_ROWS).max(1);
    let (all, count) =
        blocks.iter().step_by(every).fold((0, 0), |(all, n), block| (all + bits(block), n + 1));
    match count > 0 && all <= count * BITS_MAX {
        true => How::Differences,
        false => of_values(numbers.len(), |i| numbers[i]),
    }
}

fn of_values<T: Eq + std::hash::Hash>(rows: usize, value: impl Fn(usize) -> T) -> How {
    if rows < SAMPLE_ROWS {
        return How::Plain;
    }
    let sample = (0..SAMPLE_ROWS).map(|i| value(i * (rows / SAMPLE_ROWS)));
    let values: HashSet<T, ahash::RandomState> = sample.collect();
    match SAMPLE_ROWS - values.len() >= ALIKE_MIN {
        true => How::FewValues,
        false => How::Plain,
    }
}

#[cfg(test)]
mod tests;
