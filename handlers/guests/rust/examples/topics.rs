//! A component of `wasi:messaging`, as `wit-bindgen` makes one: does what the topic says.

use self::bindings::exports::wasi::messaging::incoming_handler::Guest;
use self::bindings::wasi::messaging::producer;
use self::bindings::wasi::messaging::request_reply::{self, RequestOptions};
use self::bindings::wasi::messaging::types::{Client, Error, Message};

mod bindings {
    wit_bindgen::generate!({ world: "topics", path: "../stock/wit", generate_all });
}

struct Topics;

bindings::export!(Topics with_types_in bindings);

impl Guest for Topics {
    fn handle(message: Message) -> Result<(), Error> {
        let client = Client::connect("default")?;
        let answer = match message.topic().unwrap_or_default().as_str() {
            "echo" => message.data(),
            "relay" => {
                let options = RequestOptions::new();
                options.set_timeout_ms(1000);
                options.set_expected_replies(1);
                let replies = request_reply::request(&client, "other", &message, Some(options))?;
                replies.into_iter().flat_map(|reply| reply.data()).collect()
            }
            "publish" => {
                producer::send(&client, "first", Message::new(&message.data()))?;
                return Ok(());
            }
            _ => return Err(Error::Other("failed on purpose".to_owned())),
        };
        request_reply::reply(&message, Message::new(&answer))
    }
}
