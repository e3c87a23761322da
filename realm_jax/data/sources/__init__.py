"""Where the texts of a corpus come from: files and folders in known formats, read as records."""
