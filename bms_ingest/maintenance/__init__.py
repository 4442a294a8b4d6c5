"""Jobs that look after the stored data, one file a job."""
