"""What a run did, read from its files alone: as a page, and sent to trackers."""
