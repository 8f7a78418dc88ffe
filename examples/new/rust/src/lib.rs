//! A WebAssembly component: each call and each event finds a fresh instance of it.

use serde_json::{Value, json};

use self::bindings::edgescale::app::inputs::{Event, Request, Response};
use self::bindings::edgescale::app::{log, store};

mod bindings {
    wit_bindgen::generate!({ world: "my:app/app-of-two", path: "wit", generate_all });
}

struct App;

impl bindings::Guest for App {
    fn handle_call(request: Request) -> Result<Response, String> {
        let answer = greet(&request.body)?;
        let content_type = "application/json".to_owned();
        Ok(Response { content_type, body: answer.to_string().into_bytes() })
    }

    fn handle_event(event: Event) -> Result<(), String> {
        greet(&event.body).map(|_| ())
    }
}

fn greet(body: &[u8]) -> Result<Value, String> {
    let data: Value = serde_json::from_slice(body).map_err(|e| e.to_string())?;
    let key = json!({ "name": data["name"] }).to_string();
    let failed = |e: store::Error| format!("{e:?}");
    store::increment("visits", &key, "{\"count\": 1}").map_err(failed)?;
    let row = store::get("visits", &key).map_err(failed)?.unwrap_or_default();
    let row: Value = serde_json::from_str(&row).map_err(|e| e.to_string())?;
    log::write(log::Level::Info, &format!("{key} was here {} times", row["count"]));
    Ok(json!({ "hello": data["name"], "visits": row["count"] }))
}

bindings::export!(App with_types_in bindings);
