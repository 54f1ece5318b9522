//! Whole reads and writes, made of the partial ones that an operating system gives.

use std::io;

/// Calls `read` until `buf` is full or the file ends; returns how many bytes were read.
///
/// An interrupted attempt is repeated.
pub(super) fn read_whole(
    buf: &mut [u8],
    offset: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match read(&mut buf[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(bytes) => done += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Calls `write` until all of `buf` is written.
///
/// An interrupted attempt is repeated, a short one continued.
///
/// # Errors
/// `WriteZero` from an attempt that makes no progress, and whatever `write` says.
pub(super) fn write_whole(
    buf: &[u8],
    offset: u64,
    mut write: impl FnMut(&[u8], u64) -> io::Result<usize>,
) -> io::Result<()> {
    let mut done = 0;
    while done < buf.len() {
        match write(&buf[done..], offset + done as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(bytes) => done += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_interrupted_writes_are_continued_where_they_stopped() {
        let mut file = vec![0; 10];
        let mut attempt = 0;
        write_whole(&[1, 2, 3, 4, 5], 3, |buf, offset| {
            attempt += 1;
            if attempt % 2 == 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let bytes = buf.len().min(2);
            file[offset as usize..][..bytes].copy_from_slice(&buf[..bytes]);
            Ok(bytes)
        })
        .unwrap();
        assert_eq!(file, [0, 0, 0, 1, 2, 3, 4, 5, 0, 0]);
    }

    #[test]
    fn a_write_without_progress_is_an_error_and_not_a_loop() {
        let error = write_whole(&[1], 0, |_, _| Ok(0)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }

    #[test]
    fn a_read_ends_early_only_at_the_end_of_the_file() {
        let file = [1, 2, 3, 4, 5];
        let mut buf = [0; 8];
        let bytes = read_whole(&mut buf, 1, |buf, offset| {
            let rest = &file[offset as usize..];
            let bytes = rest.len().min(buf.len()).min(3);
            buf[..bytes].copy_from_slice(&rest[..bytes]);
            Ok(bytes)
        })
        .unwrap();
        assert_eq!((bytes, buf), (4, [2, 3, 4, 5, 0, 0, 0, 0]));
    }
}
