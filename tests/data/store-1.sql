-- a tasks.db of version 1, as the first release made it
CREATE TABLE tasks (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,  -- the number of a removed row is not used again
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    outcome TEXT,
    name TEXT,
    tags TEXT NOT NULL,              -- every tag as a line "key=value", with a line feed before and after
    created_at TEXT NOT NULL,
    finished_at TEXT,
    deleted INTEGER NOT NULL DEFAULT 0,
    stop TEXT,                       -- the stop that is wanted, if any
    spec TEXT NOT NULL,
    record TEXT NOT NULL
);
CREATE INDEX tasks_active ON tasks (seq) WHERE outcome IS NULL OR deleted;
CREATE INDEX tasks_state ON tasks (state, seq);
CREATE INDEX tasks_outcome ON tasks (outcome, seq);
CREATE INDEX tasks_finished ON tasks (finished_at) WHERE outcome IS NOT NULL;
CREATE TABLE keys (key TEXT PRIMARY KEY, task_id TEXT NOT NULL, digest TEXT NOT NULL, created_at TEXT NOT NULL);
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT NOT NULL, at TEXT NOT NULL, data TEXT NOT NULL
);
CREATE INDEX events_task ON events (task_id, seq);
INSERT INTO tasks VALUES (1, '0123456789abcdef', 'exited', 'succeeded', 'frozen', char(10) || 'release=0.1' || char(10),
  '2026-01-31T12:00:00.000000Z', '2026-01-31T12:00:02.000000Z', 0, NULL,
  '{"actions": [{"machine": "process", "parameters": {"command": ["true"]}, "name": null}], "name": "frozen", "timeoutSeconds": null, "stopSignal": "SIGTERM", "graceSeconds": 10.0, "tags": {"release": "0.1"}, "metadata": null}',
  '{"state": "exited", "outcome": "succeeded", "attempt": 2, "origin": "v1", "createdAt": "2026-01-31T12:00:00.000000Z", "finishedAt": "2026-01-31T12:00:02.000000Z", "previous": [{"format": 1, "taskId": "0123456789abcdef", "attempt": 1, "runner": {"pid": 4194304, "startTime": 1, "bootId": "b"}, "state": "exited", "outcome": "failed", "exitCode": 3, "currentActionIdx": 0, "actions": [{"index": 0, "machine": "process", "state": "exited", "exitCode": 3, "outputStart": 0, "outputEnd": 3}], "startedAt": "2026-01-31T12:00:00.000000Z", "finishedAt": "2026-01-31T12:00:01.000000Z", "heartbeat": {"at": "2026-01-31T12:00:00.000000Z", "monotonic": 1.0}, "pausedSeconds": 0.0, "output": {"bytes": 3, "gaps": []}}]}');
PRAGMA user_version = 1;
