use super::*;

#[test]
fn each_verb_has_the_answer_that_the_protocol_wants() {
    let speaker = Speaker {
        name: "node".into(),
        version: "1.2.3".into(),
        description: "a node".into(),
        id: "x".into(),
        started: "2026-01-01T00:00:00Z".into(),
    };
    let endpoint = Endpoint {
        name: "shop_sell".into(),
        subject: "call.cloud._.shop.sell".into(),
        queue: "node".into(),
        requests: 4,
        errors: 1,
        busy_us: 10,
        ..Endpoint::default()
    };
    let service = |count| Service {
        metadata: [("path".to_owned(), "cloud".to_owned())].into(),
        endpoints: vec![endpoint.clone(); count],
    };
    for verb in ["PING", "INFO", "STATS"] {
        let answer = speaker.answer(verb, service(1));
        assert_eq!(answer["type"], format!("io.nats.micro.v1.{}_response", verb.to_lowercase()));
        let who = [&answer["name"], &answer["id"], &answer["version"], &answer["metadata"]["path"]];
        assert_eq!(who, ["node", "x", "1.2.3", "cloud"], "{answer}");
        assert_eq!(answer["endpoints"].is_array(), verb != "PING", "{answer}");
    }
    let info = speaker.answer("INFO", service(1));
    assert_eq!([&info["description"], &info["endpoints"][0]["queue_group"]], ["a node", "node"]);
    let stats = &speaker.answer("STATS", service(1))["endpoints"][0];
    let numbers = ["num_requests", "num_errors", "processing_time", "average_processing_time"];
    assert_eq!(numbers.map(|name| stats[name].clone()), [4, 1, 10_000, 2_500].map(Value::from));
    // Nothing asked of it, nothing divided by it.
    let idle = Endpoint::default().stats();
    assert_eq!(idle["average_processing_time"], 0, "{idle}");
    let many = speaker.answer("STATS", service(ENDPOINTS_MAX + 9));
    assert_eq!(many["endpoints"].as_array().map(Vec::len), Some(ENDPOINTS_MAX));
}
