//! Components of a mask through pipelines: labels, their table, and rectangles.

use kernels::component_table::{Row, decode};

use super::*;
use crate::{PixelFormat, Shape};

/// Gray frames in text, `#` for samples that are set.
fn drawn(lines: &[&str]) -> Frame {
    let data = lines.iter().flat_map(|line| line.bytes().map(|b| u8::from(b == b'#') * 255));
    let (width, height) = (lines[0].len() as u32, lines.len() as u32);
    let shape = Shape::full(width, height, PixelFormat::Gray8);
    Frame::new(shape, 0, 0, data.collect::<Vec<u8>>().into()).unwrap()
}

#[test]
fn components_have_labels_rows_and_boxes() {
    let frame = drawn(&[
        "##......", //
        "##...#..", "......#.", "........", ".####...", "....####",
    ]);
    let pipeline = Pipeline::parse(
        r#"{ "steps": [
            { "op": "components", "input": ["frame"], "output": "labels" },
            { "op": "component_table", "most": 3, "input": ["labels"], "output": "table" },
            { "op": "component_boxes", "min_area": 4, "input": ["labels"], "output": "boxes" } ],
          "returns": ["labels", "table", "boxes"] }"#,
    )
    .unwrap();
    let engine = engine(vec![cpu()]);
    let values = block_on(engine.run(Job::new(pipeline, frame))).unwrap().values;
    let Value::Frame(labels) = &values["labels"] else { panic!() };
    assert_eq!(labels.format, PixelFormat::Gray32);
    assert_eq!(labels.data.iter().map(|byte| u32::from(*byte)).max(), Some(3));
    let Value::Frame(table) = &values["table"] else { panic!() };
    let rect = |x, y, width, height| kernels::boxes::Rect { x, y, width, height };
    let rows = decode(&table.data);
    let whole = Row { area: 34, rect: rect(0, 0, 8, 6), sums: rows[0].sums, label: 3 };
    let expected = [
        whole,
        Row { area: 4, rect: rect(0, 0, 2, 2), sums: [2, 2], label: 1 },
        Row { area: 2, rect: rect(5, 1, 2, 2), sums: [11, 3], label: 2 },
        Row { area: 8, rect: rect(1, 4, 7, 2), sums: [32, 36], label: 3 },
    ];
    assert_eq!(rows, expected);
    let both = [Rect { x: 1, y: 4, width: 7, height: 2 }, Rect { x: 0, y: 0, width: 2, height: 2 }];
    assert_eq!(values["boxes"], Value::Boxes(both.to_vec()));
}
