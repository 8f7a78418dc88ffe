//! `ctl.<site>._.dlq.ls|show|redrive|drop`: the dead letters of a site.

use base64::Engine as _;
use bus::event::dead::Dead;
use bus::{EventLog, Refusal, RefusalKind, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Answer;

/// The most dead letters that are listed, redriven or dropped at once.
const LETTERS_MAX: usize = 200;

/// A list ends behind the letter with which it has so many bytes of names and reasons; the next one
/// goes on `after` it.
const LIST_BYTES_MAX: usize = 128 << 10;
/// How much of a body is shown, in bytes.
pub const SHOWN_BYTES_MAX: u64 = 64 << 10;

/// What is asked of them; each verb reads its own part.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Asked {
    after: u64,
    limit: Option<usize>,
    seq: Vec<u64>,
    all: bool,
    /// With `all`: none after this one.
    upto: Option<u64>,
}

/// Answers one question.
pub async fn answer(events: &EventLog, verb: &str, body: &[u8]) -> Answer {
    let asked: Asked = match body.is_empty() {
        true => Asked::default(),
        false => serde_json::from_slice(body)
            .map_err(|e| Refusal::bad(format!("dlq.{verb}: {e}; say after, limit, seq or all")))?,
    };
    match verb {
        "ls" => list(events, &asked).await,
        "show" => show(events, &asked).await,
        "redrive" | "drop" => each(events, verb, &asked).await,
        _ => Err(Refusal::bad(format!("no dlq.{verb}; there are ls, show, redrive, drop"))),
    }
}

fn away(e: bus::Error) -> Refusal {
    Refusal::new(RefusalKind::Unavailable, format!("dead letters: {e}"))
}

async fn list(events: &EventLog, asked: &Asked) -> Answer {
    let limit = asked.limit.unwrap_or(LETTERS_MAX).min(LETTERS_MAX);
    // Counted first: what comes meanwhile is listed beyond the count, never counted and missing.
    let total = events.dead_state().await.map_err(away)?.count;
    let (mut letters, mut next) = (vec![], asked.after.saturating_add(1));
    let mut bytes = 0;
    while letters.len() < limit && bytes < LIST_BYTES_MAX {
        let Some(mut letter) = events.dead_from(next).await.map_err(away)? else { break };
        next = letter.seq + 1;
        letter.headers.clear();
        letter.stack.clear();
        bytes += letter.name.len() + letter.reason.len();
        letters.push(letter);
    }
    Response::json(&json!({"letters": letters, "total": total}))
}

async fn show(events: &EventLog, asked: &Asked) -> Answer {
    let [seq] = asked.seq[..] else { return Err(Refusal::bad("dlq.show: say seq = [number]")) };
    let missing = || Refusal::new(RefusalKind::NotFound, format!("no dead letter {seq}"));
    let letter = events.dead(seq).await.map_err(away)?.ok_or_else(missing)?;
    let mut shown = json!(letter);
    shown["body_bytes"] = letter.data.len().into();
    let data = &letter.data[..letter.data.len().min(SHOWN_BYTES_MAX as usize)];
    match std::str::from_utf8(data) {
        Ok(text) => shown["body"] = Value::from(text),
        // A character that is cut in the middle does not make it binary.
        Err(e) if e.error_len().is_none() => {
            shown["body"] = String::from_utf8_lossy(&data[..e.valid_up_to()]).into();
        }
        Err(_) => {
            let text = base64::engine::general_purpose::STANDARD.encode(data);
            shown["body_base64"] = Value::from(text);
        }
    }
    Response::json(&shown)
}

/// Redrives or drops; what was named and is not there is told. `all` are [`LETTERS_MAX`] at a time,
/// up to the last letter that was there at the start: what fails again meanwhile waits for the next
/// time. The answer says whether there may be `more` of them, and which was the last.
async fn each(events: &EventLog, verb: &str, asked: &Asked) -> Answer {
    if asked.all != asked.seq.is_empty() || asked.seq.len() > LETTERS_MAX {
        let text = format!("dlq.{verb}: say seq, at most {LETTERS_MAX}, or all = true");
        return Err(Refusal::bad(text));
    }
    let upto = match asked.upto {
        Some(upto) => upto,
        None => events.dead_state().await.map_err(away)?.last,
    };
    let (done, missing, more) = match asked.all {
        true => first(events, verb, upto).await?,
        false => named(events, verb, &asked.seq).await?,
    };
    let left = events.dead_state().await.map_err(away)?.count;
    let answer =
        json!({"done": done, "missing": missing, "left": left, "more": more, "upto": upto});
    Response::json(&answer)
}

/// How many were redriven or dropped, which are not there, and whether there may be more.
type Each = (usize, Vec<u64>, bool);

async fn named(events: &EventLog, verb: &str, seqs: &[u64]) -> Result<Each, Refusal> {
    let mut missing = vec![];
    for &seq in seqs {
        let done = match events.dead(seq).await.map_err(away)? {
            Some(letter) => one(events, verb, letter).await?,
            None => false,
        };
        if !done {
            missing.push(seq);
        }
    }
    Ok((seqs.len() - missing.len(), missing, false))
}

/// The first letters up to one.
async fn first(events: &EventLog, verb: &str, upto: u64) -> Result<Each, Refusal> {
    let (mut done, mut next) = (0, 1);
    for _ in 0..LETTERS_MAX {
        let letter = events.dead_from(next).await.map_err(away)?;
        let Some(letter) = letter.filter(|letter| letter.seq <= upto) else {
            return Ok((done, vec![], false));
        };
        next = letter.seq + 1;
        done += usize::from(one(events, verb, letter).await?);
    }
    Ok((done, vec![], next <= upto))
}

/// False when somebody else was quicker.
async fn one(events: &EventLog, verb: &str, letter: Dead) -> Result<bool, Refusal> {
    let done = match verb {
        "drop" => events.drop_dead(&letter).await,
        _ => events.redrive(letter).await,
    };
    done.map_err(away)
}
