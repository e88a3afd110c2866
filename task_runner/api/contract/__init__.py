"""What every call of `/v1` takes and answers: read by what checks requests, and by the description of the API."""
