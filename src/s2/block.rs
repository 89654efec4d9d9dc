//! What a block says.

#![warn(clippy::indexing_slicing)]

use super::{BLOCK_BYTES_MAX, S2Error};
use crate::heap;

/// Bytes that are copied at once where there is room, whether so many are wanted or not.
const STRIDE: usize = 16;

/// Appends what `block` says to `out`, which grows by at most [`BLOCK_BYTES_MAX`] bytes.
///
/// # Errors
///
/// [`S2Error::BlockSize`] before anything is allocated; [`S2Error::Block`] if the block is cut short, says more or less
/// than its size, or copies from before its start. `out` may have grown by then.
pub fn decode(block: &[u8], out: &mut Vec<u8>) -> Result<(), S2Error> {
    let (size, elements) = size(block)?;
    let base = out.len();
    // A stride may go beyond the end.
    heap::resize(out, base + size + STRIDE);
    let said = out.get_mut(base..).unwrap_or_default();
    let result = expand(elements, said, size);
    out.truncate(base + size);
    result
}

/// The size of what a block says, and what is behind that number.
fn size(block: &[u8]) -> Result<(usize, &[u8]), S2Error> {
    let (mut size, mut shift, mut rest) = (0, 0, block);
    loop {
        let (&byte, after) = rest
            .split_first()
            .filter(|_| shift <= 28)
            .ok_or(S2Error::Block("has no size"))?;
        size |= u64::from(byte & 0x7f) << shift;
        (shift, rest) = (shift + 7, after);
        if byte < 0x80 {
            break;
        }
    }
    let usable = usize::try_from(size).ok();
    let usable = usable.filter(|&it| it <= BLOCK_BYTES_MAX);
    Ok((usable.ok_or(S2Error::BlockSize(size))?, rest))
}

/// Carries out the elements: fills the first `size` bytes of `said`, which has room for a stride behind them.
fn expand(mut rest: &[u8], said: &mut [u8], size: usize) -> Result<(), S2Error> {
    // How far the last copy went up, and how much is said.
    let (mut offset, mut at) = (0, 0);
    while let Some((&tag, after)) = rest.split_first() {
        rest = after;
        let bits = usize::from(tag >> 2);
        let len;
        match tag & 3 {
            0 => {
                len = 1 + match bits {
                    60.. => number(&mut rest, bits - 59)?,
                    few => few,
                };
                rest = literal(rest, said, at, len, size)?;
                at += len;
                continue;
            }
            1 => {
                let low = number(&mut rest, 1)?;
                let near = usize::from(tag >> 5) << 8 | low;
                if near > 0 {
                    offset = near;
                }
                len = match (near, bits & 7) {
                    (0, 5) => 8 + number(&mut rest, 1)?,
                    (0, 6) => 260 + number(&mut rest, 2)?,
                    (0, 7) => 65540 + number(&mut rest, 3)?,
                    (_, few) => 4 + few,
                };
            }
            2 => {
                offset = number(&mut rest, 2)?;
                len = 1 + bits;
            }
            _ => {
                offset = number(&mut rest, 4)?;
                len = 1 + bits;
            }
        }
        copy(said, at, offset, len, size)?;
        at += len;
    }
    if at < size {
        return Err(S2Error::Block("says less than its size"));
    }
    Ok(())
}

/// Takes a number of so many bytes, four at the most.
#[inline]
fn number(rest: &mut &[u8], len: usize) -> Result<usize, S2Error> {
    let (bytes, after) = rest.split_at_checked(len).ok_or(CUT_SHORT)?;
    *rest = after;
    let bytes = bytes.iter().rev();
    let number = bytes.fold(0u64, |number, &byte| number << 8 | u64::from(byte));
    // On 32 bits, whatever is too large for a `usize` is too large for everything.
    Ok(usize::try_from(number).unwrap_or(usize::MAX / 2))
}

/// Says `len` bytes as they are; gives what is behind them.
#[inline]
fn literal<'a>(
    rest: &'a [u8],
    said: &mut [u8],
    at: usize,
    len: usize,
    size: usize,
) -> Result<&'a [u8], S2Error> {
    if len > size - at {
        return Err(TOO_LONG);
    }
    let (bytes, after) = rest.split_at_checked(len).ok_or(CUT_SHORT)?;
    if let (true, Some(from), Some(to)) = (
        len <= STRIDE,
        rest.first_chunk::<STRIDE>(),
        stride_at(said, at),
    ) {
        *to = *from;
    } else if let Some(to) = said.get_mut(at..at + len) {
        to.copy_from_slice(bytes);
    }
    Ok(after)
}

/// Says `len` bytes again that were said `offset` bytes before.
#[inline]
fn copy(said: &mut [u8], at: usize, offset: usize, len: usize, size: usize) -> Result<(), S2Error> {
    if len > size - at {
        return Err(TOO_LONG);
    }
    let from = at.checked_sub(offset).filter(|_| offset > 0);
    let from = from.ok_or(S2Error::Block("copies from before its start"))?;
    if offset >= STRIDE && len <= 4 * STRIDE {
        let (mut from, mut to) = (from, at);
        while to < at + len {
            let Some(stride) = said.get(from..).and_then(|it| it.first_chunk::<STRIDE>()) else {
                break;
            };
            let stride = *stride;
            let Some(target) = stride_at(said, to) else {
                break;
            };
            *target = stride;
            (from, to) = (from + STRIDE, to + STRIDE);
        }
        return Ok(());
    }
    // Where it reaches into itself it says a pattern, of which there is more after each round.
    let (mut at, end) = (at, at + len);
    while at < end {
        let piece = (at - from).min(end - at);
        said.copy_within(from..from + piece, at);
        at += piece;
    }
    Ok(())
}

/// The place of a stride.
#[inline]
fn stride_at(said: &mut [u8], at: usize) -> Option<&mut [u8; STRIDE]> {
    said.get_mut(at..)?.first_chunk_mut()
}

const CUT_SHORT: S2Error = S2Error::Block("is cut short");
const TOO_LONG: S2Error = S2Error::Block("says more than its size");
