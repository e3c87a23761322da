"""What a disk that errs does."""


def flip_a_bit(file, at: int = -1) -> None:
    """Changes one bit of a file, in a folder or a bucket; other files that shared its content keep it."""
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.unlink()
    file.write_bytes(bytes(content))
