"""`python -m bms_ingest` is `bms-ingest`."""

from bms_ingest.cli import main

if __name__ == "__main__":
    main()
