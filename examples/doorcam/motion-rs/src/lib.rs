//! The twin of `motion.js` in Rust: looks for motion in every frame of a camera. Pixels never
//! come in here.

use serde::Serialize;

use self::bindings::edgescale::app::accelerate::{self, Frame};
use self::bindings::edgescale::app::inputs::Connection;
use self::bindings::edgescale::app::{bus, config, store, types};

mod bindings {
    wit_bindgen::generate!({
        world: "on-frame",
        path: "../../../handlers/wit",
        generate_all,
    });
}

const PIPELINE: &str = r#"{
  "steps": [
    { "op": "gray", "input": ["frame"], "output": "gray" },
    { "op": "half", "input": ["gray"], "output": "small" },
    { "op": "absdiff", "input": ["small", "small@-1"], "output": "difference" },
    { "op": "threshold", "level": 24, "input": ["difference"], "output": "mask" },
    { "op": "score", "input": ["mask"], "output": "score" },
    { "op": "boxes", "min_count": 16, "input": ["mask"], "output": "boxes" },
    { "op": "draw_boxes", "input": ["frame", "boxes"], "output": "marked" },
    { "op": "jpeg", "quality": 80, "input": ["marked"], "output": "jpeg" }
  ],
  "returns": ["score", "boxes", "jpeg"]
}"#;

/// A row of the table `motion`.
#[derive(Serialize)]
struct Row {
    camera: String,
    time_us: i64,
    frame: u64,
    score: f64,
    boxes: Vec<Rect>,
    jpeg: String,
    device: String,
}

#[derive(Serialize)]
struct Rect {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

struct Motion;

impl bindings::Guest for Motion {
    fn handle_frame(connection: Connection, frame: Frame) -> Result<(), String> {
        look(connection, &frame).map_err(|error| format!("{error:?}"))
    }
}

fn look(connection: Connection, frame: &Frame) -> Result<(), types::Error> {
    let outcome = accelerate::run(frame, PIPELINE)?;
    let row = Row {
        camera: connection.stream,
        time_us: frame.time_us(),
        frame: frame.index(),
        score: outcome.number("score")?,
        boxes: outcome.boxes("boxes")?.into_iter().map(Rect::from).collect(),
        jpeg: outcome.store_blob("jpeg")?,
        device: outcome.device(),
    };
    let text = serde_json::to_string(&row).expect("a row is plain data");
    store::put("motion", &text)?;
    if row.score > threshold() {
        bus::publish("motion", "application/json", text.as_bytes())?;
    }
    Ok(())
}

fn threshold() -> f64 {
    config::get("threshold").and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

impl From<accelerate::Rect> for Rect {
    fn from(rect: accelerate::Rect) -> Self {
        Self { x: rect.x, y: rect.y, width: rect.width, height: rect.height }
    }
}

bindings::export!(Motion with_types_in bindings);
