use super::*;

#[test]
fn words_say_how_the_card_behaves() {
    let parse = Behaviour::parse;
    assert_eq!(parse(""), Ok(Behaviour::default()));
    let behaviour = parse("hang=gray, load_ms=50,mhz=300").unwrap();
    assert_eq!(behaviour.hang.as_deref(), Some("gray"));
    assert_eq!((behaviour.load, behaviour.mhz), (Duration::from_millis(50), Some(300)));
    for wrong in ["hang", "mhz=0", "load_ms=soon", "sing=loud"] {
        assert!(parse(wrong).unwrap_err().contains(wrong));
    }
}

fn call(number: u32, reply: Reply) -> Call {
    Call { number, body: reply.bytes().to_vec() }
}

#[test]
fn memory_is_where_the_host_says() {
    let mut card = SoftwareCard::new(Behaviour::default());
    card.answer(&call(ALLOC, Reply::new().number(1, 0x4000).number(2, 100)));
    let wrote = Reply::new().number(3, 0x4010).field(4, &[7; 20]).number(5, 20);
    card.answer(&call(TO_DEVICE, wrote));
    let read = |card: &mut SoftwareCard, at| {
        let reply = card.answer(&call(TO_HOST, Reply::new().number(4, at).number(5, 4)));
        Message::new(reply.bytes()).bytes(2).unwrap().to_vec()
    };
    assert_eq!(read(&mut card, 0x4010), [7; 4]);
    assert_eq!(read(&mut card, 0x4022)[..2], [7; 2]);
    assert_eq!(read(&mut card, 0x9000), [0; 4], "where nothing is");
    card.answer(&call(FREE, Reply::new().number(1, 0x4000)));
    assert_eq!(read(&mut card, 0x4010), [0; 4]);
}

#[test]
fn a_call_has_a_header_of_fixed_width() {
    let body = Reply::new().number(1, 300).field(2, b"ab");
    let mut bytes = vec![0x09];
    bytes.extend((body.bytes().len() as u64).to_le_bytes());
    bytes.push(0x15);
    bytes.extend(ALLOC.to_le_bytes());
    bytes.extend(body.bytes());
    let call = receive(&mut &bytes[..]).unwrap();
    assert_eq!(call.number, ALLOC);
    let message = Message::new(&call.body);
    assert_eq!((message.number(1), message.bytes(2)), (Some(300), Some(&b"ab"[..])));
    let mut long = bytes.clone();
    long[1..9].fill(0xFF);
    assert!(receive(&mut &long[..]).is_err());
}

#[test]
fn no_call_makes_it_panic() {
    let mut card = SoftwareCard::new(Behaviour::default());
    let mut state = 88_172_645_463_325_252_u64;
    for round in 0..20_000_u64 {
        let body: Vec<u8> = (0..round % 60)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                [(state >> 40) as u8, 0x08, 0x10, 0x22, 0xFF][(state >> 20) as usize % 5]
            })
            .collect();
        // Files and memory of any size are not what this is about.
        let number = [CLOSE, FREE, TO_DEVICE, WRITE_CONTROL, READ_CONTROL, READ_REGISTER, 77];
        card.answer(&Call { number: number[round as usize % number.len()], body });
    }
}
