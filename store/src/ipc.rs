//! Messages of Arrow IPC before they are decoded. Arrow's decoder takes as much memory as a
//! compressed buffer says that it holds, whatever there is in it.

use arrow::error::ArrowError;
use arrow::ipc;

/// Comes before the length of a message.
const CONTINUATION: u32 = u32::MAX;
/// Bytes at the start of a compressed buffer that say how much it holds.
const HOLDS_BYTES: usize = 8;

/// Refuses messages, one after the other in `bytes`, whose compressed buffers say that they hold
/// more than so many bytes together.
pub(crate) fn check_lengths(mut bytes: &[u8], most: u64) -> Result<(), ArrowError> {
    let mut holds = 0;
    while let Some((meta, rest)) = meta_of(bytes)? {
        let message = ipc::root_as_message(meta).map_err(|e| broken(&e.to_string()))?;
        let body = usize::try_from(message.bodyLength()).ok();
        let body = body.and_then(|length| rest.split_at_checked(length));
        let (body, rest) = body.ok_or_else(|| broken("a message is cut off"))?;
        let in_dictionary = || message.header_as_dictionary_batch().and_then(|batch| batch.data());
        if let Some(batch) = message.header_as_record_batch().or_else(in_dictionary)
            && batch.compression().is_some()
        {
            let buffers = batch.buffers().unwrap_or_default();
            holds =
                buffers.iter().fold(holds, |holds: u64, at| holds.saturating_add(held(body, at)));
        }
        if holds > most {
            return Err(broken(&format!(
                "compressed values take {holds} bytes, at most {most} may"
            )));
        }
        bytes = rest;
    }
    Ok(())
}

/// What a compressed buffer says that it holds; nothing where it holds it as it is.
fn held(body: &[u8], at: &ipc::Buffer) -> u64 {
    let from = usize::try_from(at.offset()).ok();
    let word = from.and_then(|from| body.get(from..)?.first_chunk::<HOLDS_BYTES>());
    word.map_or(0, |word| u64::try_from(i64::from_le_bytes(*word)).unwrap_or(0))
}

/// Bytes, and those that follow them.
type Parts<'a> = (&'a [u8], &'a [u8]);

/// The description of the next message, and what follows it; nothing at the end.
fn meta_of(bytes: &[u8]) -> Result<Option<Parts<'_>>, ArrowError> {
    let cut = || broken("a message is cut off");
    if bytes.is_empty() {
        return Ok(None);
    }
    let (length, rest) = match word(bytes).ok_or_else(cut)? {
        (CONTINUATION, rest) => word(rest).ok_or_else(cut)?,
        // As it was before there were continuations.
        length => length,
    };
    match length {
        0 => Ok(None),
        length => rest.split_at_checked(length as usize).map(Some).ok_or_else(cut),
    }
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes.split_first_chunk().map(|(word, rest)| (u32::from_le_bytes(*word), rest))
}

fn broken(text: &str) -> ArrowError {
    ArrowError::IpcError(text.to_owned())
}

#[cfg(test)]
pub(crate) mod tests;
