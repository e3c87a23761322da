"""What each part of REALM contributes: runs that differ in one thing, and their table."""
