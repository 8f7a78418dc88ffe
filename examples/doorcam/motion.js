// Looks for motion in every frame of a camera. Pixels never come in here: a pipeline is named,
// a number and a few rectangles come back, and the picture is stored where it was made.
import accelerate from "edgescale:app/accelerate@0.1.0";
import bus from "edgescale:app/bus@0.1.0";
import config from "edgescale:app/config@0.1.0";
import store from "edgescale:app/store@0.1.0";

const PIPELINE = JSON.stringify({
  steps: [
    { op: "gray", input: ["frame"], output: "gray" },
    { op: "half", input: ["gray"], output: "small" },
    { op: "absdiff", input: ["small", "small@-1"], output: "difference" },
    { op: "threshold", level: 24, input: ["difference"], output: "mask" },
    { op: "score", input: ["mask"], output: "score" },
    { op: "boxes", min_count: 16, input: ["mask"], output: "boxes" },
    { op: "draw_boxes", input: ["frame", "boxes"], output: "marked" },
    { op: "jpeg", quality: 80, input: ["marked"], output: "jpeg" },
  ],
  returns: ["score", "boxes", "jpeg"],
});

export function handleFrame(connection, frame) {
  const outcome = accelerate.run(frame, PIPELINE);
  const row = {
    camera: connection.stream,
    time_us: Number(frame.timeUs()),
    frame: Number(frame.index()),
    score: outcome.number("score"),
    boxes: outcome.boxes("boxes"),
    jpeg: outcome.storeBlob("jpeg"),
    device: outcome.device(),
  };
  store.put("motion", JSON.stringify(row));
  if (row.score > Number(config.get("threshold") ?? 0)) {
    bus.publish("motion", "application/json", ascii(JSON.stringify(row)));
  }
}

// The engine has no TextEncoder; what is sent here is ASCII, and anything else is escaped.
function ascii(text) {
  const escaped = text.replace(/[^\x00-\x7f]/g, escapeUnit);
  return Uint8Array.from(escaped, (c) => c.charCodeAt(0));
}

function escapeUnit(unit) {
  return "\\u" + unit.charCodeAt(0).toString(16).padStart(4, "0");
}
