-- a tasks.db of version 3, as a daemon left it that did not know tokens nor spans yet: taken over from store-2.sql
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    name TEXT,
    created_at TEXT NOT NULL,
    num_tasks INTEGER NOT NULL,
    paused INTEGER NOT NULL DEFAULT 0,
    -- of those of its tasks that have been removed since
    removed_ok INTEGER NOT NULL DEFAULT 0,
    removed_failed INTEGER NOT NULL DEFAULT 0,
    removed_cancelled INTEGER NOT NULL DEFAULT 0,
    removed_finished_at TEXT,        -- when the last of those ended
    data TEXT NOT NULL               -- tags and metadata
, origin TEXT);
INSERT INTO "batches" VALUES(1,'00000000000000b1','nightly','2026-11-21T19:27:55.839668Z',2,1,0,0,0,NULL,'{"tags": {}, "metadata": null}','v1');
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, task_id TEXT NOT NULL, at TEXT NOT NULL, data TEXT NOT NULL
, origin TEXT);
INSERT INTO "events" VALUES(1,'0000000000000001','2026-11-21T19:27:55.276981Z','{"taskId": "0000000000000001", "name": "frozen", "state": "pending", "outcome": null, "attempt": 1, "exitCode": null, "signal": null, "currentActionIdx": -1, "stalled": null, "progress": null, "batch": null, "entity": "gs-17"}',NULL);
INSERT INTO "events" VALUES(2,'0000000000000001','2026-11-21T19:27:55.764074Z','{"taskId": "0000000000000001", "name": "frozen", "state": "exited", "outcome": "succeeded", "attempt": 1, "exitCode": 0, "signal": null, "currentActionIdx": 0, "stalled": null, "progress": null, "batch": null, "entity": "gs-17"}',NULL);
INSERT INTO "events" VALUES(3,'0000000000000002','2026-11-21T19:27:55.839903Z','{"taskId": "0000000000000002", "name": null, "state": "pending", "outcome": null, "attempt": 1, "exitCode": null, "signal": null, "currentActionIdx": -1, "stalled": null, "progress": null, "batch": "00000000000000b1", "entity": null}',NULL);
INSERT INTO "events" VALUES(4,'0000000000000003','2026-11-21T19:27:55.840008Z','{"taskId": "0000000000000003", "name": null, "state": "scheduled", "outcome": null, "attempt": 1, "exitCode": null, "signal": null, "currentActionIdx": -1, "stalled": null, "progress": null, "batch": "00000000000000b1", "entity": null}',NULL);
INSERT INTO "events" VALUES(5,'0000000000000002','2026-11-21T19:27:55.939850Z','{"taskId": "0000000000000002", "name": null, "state": "exited", "outcome": "failed", "attempt": 1, "exitCode": 3, "signal": null, "currentActionIdx": 0, "stalled": null, "progress": null, "batch": "00000000000000b1", "entity": null}',NULL);
INSERT INTO "events" VALUES(6,'0000000000000004','2026-11-21T19:27:55.971510Z','{"taskId": "0000000000000004", "name": "second", "state": "scheduled", "outcome": null, "attempt": 1, "exitCode": null, "signal": null, "currentActionIdx": -1, "stalled": null, "progress": null, "batch": null, "entity": null}',NULL);
INSERT INTO "events" VALUES(7,'0000000000000005','2026-11-21T19:27:56.306740Z','{"taskId": "0000000000000005", "name": null, "state": "pending", "outcome": null, "attempt": 1, "exitCode": null, "signal": null, "currentActionIdx": -1, "stalled": null, "progress": null, "batch": null, "entity": null}',NULL);
CREATE TABLE keys (key TEXT PRIMARY KEY, task_id TEXT NOT NULL, digest TEXT NOT NULL, created_at TEXT NOT NULL);
INSERT INTO "keys" VALUES('k1','0000000000000005','dd12aa732aca364a08c6af6b7efbef67526d875c799e56699c710d1163d1707c','2026-11-21T19:27:56.306716Z');
CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id TEXT NOT NULL,
    hook INTEGER NOT NULL,           -- which of the spec's notifications
    url TEXT NOT NULL,
    secret TEXT,                     -- the name of the one it is signed with
    host TEXT NOT NULL,
    queued_at TEXT NOT NULL,         -- when it was last put into the queue
    body TEXT NOT NULL,
    tries INTEGER NOT NULL DEFAULT 0,
    next_at TEXT,                    -- not before; none: delivered, or given up
    delivered_at TEXT,
    last_status INTEGER,             -- of the last HTTP answer
    last_error TEXT
);
CREATE TABLE settled (name TEXT PRIMARY KEY, value TEXT NOT NULL);
INSERT INTO "settled" VALUES('drained_at','2026-11-21T19:27:56.030845Z');
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
    record TEXT NOT NULL,
    batch TEXT,
    entity TEXT,
    keep_seconds REAL,               -- how long to keep it after its end, where it says so itself
    bytes INTEGER,                   -- what its files take on the disk, known some time after its end
    output_bytes INTEGER             -- and of it, its output
, origin TEXT, alias TEXT);
INSERT INTO "tasks" VALUES(1,'0000000000000001','exited','succeeded','frozen','
release=0.2
','2026-11-21T19:27:55.272746Z','2026-11-21T19:27:55.735820Z',0,NULL,'{"actions": [{"machine": "process", "parameters": {"command": ["true"]}}], "name": "frozen", "entity": "gs-17", "keepSeconds": 100000000.0, "tags": {"release": "0.2"}}','{"state":"exited","outcome":"succeeded","createdAt":"2026-11-21T19:27:55.272746Z","rank":1795289275.27278,"finishedAt":"2026-11-21T19:27:55.735820Z","status":{"taskId":"0000000000000001","runner":{"pid":4194304,"startTime":3620056,"bootId":"b"},"state":"exited","outcome":"succeeded","exitCode":0,"currentActionIdx":0,"actions":[{"index":0,"machine":"process","state":"exited","outcome":"succeeded","tries":1,"exitCode":0,"startedAt":"2026-11-21T19:27:55.724126Z","finishedAt":"2026-11-21T19:27:55.735399Z","process":{"pid":4194304,"startTime":3620057,"bootId":"b"},"usage":{"cpuSeconds":0.000961,"userSeconds":0.000961},"outputStart":0,"outputEnd":0}],"startedAt":"2026-11-21T19:27:55.723821Z","finishedAt":"2026-11-21T19:27:55.735820Z","heartbeat":{"at":"2026-11-21T19:27:55.735863Z","monotonic":36200.579066258},"usage":{"cpuSeconds":0.000961,"userSeconds":0.000961},"output":{"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},"accounting":{"by":"cgroup v2","cpuSeconds":0.00123}}}',NULL,'gs-17',100000000.0,NULL,NULL,'v1',NULL);
INSERT INTO "tasks" VALUES(2,'0000000000000002','exited','failed',NULL,'','2026-11-21T19:27:55.839745Z','2026-11-21T19:27:55.923665Z',0,NULL,'{"actions": [{"machine": "process", "parameters": {"shell": "exit 3"}}]}','{"state":"exited","outcome":"failed","createdAt":"2026-11-21T19:27:55.839745Z","rank":1795289275.8397653,"finishedAt":"2026-11-21T19:27:55.923665Z","status":{"taskId":"0000000000000002","runner":{"pid":4194304,"startTime":3620072,"bootId":"b"},"state":"exited","outcome":"failed","exitCode":3,"currentActionIdx":0,"actions":[{"index":0,"machine":"process","state":"exited","outcome":"failed","tries":1,"exitCode":3,"startedAt":"2026-11-21T19:27:55.909457Z","finishedAt":"2026-11-21T19:27:55.923123Z","process":{"pid":4194304,"startTime":3620076,"bootId":"b"},"usage":{"cpuSeconds":0.001212,"userSeconds":0.001212},"outputStart":0,"outputEnd":0}],"startedAt":"2026-11-21T19:27:55.908663Z","finishedAt":"2026-11-21T19:27:55.923665Z","heartbeat":{"at":"2026-11-21T19:27:55.923726Z","monotonic":36200.766929857},"usage":{"cpuSeconds":0.001212,"userSeconds":0.001212},"output":{"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},"accounting":{"by":"cgroup v2","cpuSeconds":0.0016}}}','00000000000000b1',NULL,NULL,NULL,NULL,'v1',NULL);
INSERT INTO "tasks" VALUES(3,'0000000000000003','scheduled',NULL,NULL,'','2026-11-21T19:27:55.839814Z',NULL,0,NULL,'{"actions": [{"machine": "process", "parameters": {"command": ["true"]}}], "executeAt": "2099-01-01T00:00:00Z"}','{"state":"scheduled","createdAt":"2026-11-21T19:27:55.839814Z","executeAt":"2099-01-01T00:00:00.000000Z","rank":1795289275.8398345}','00000000000000b1',NULL,NULL,NULL,NULL,'v1',NULL);
INSERT INTO "tasks" VALUES(4,'0000000000000004','scheduled',NULL,'second','
a=b
','2026-11-21T19:27:55.971389Z',NULL,0,NULL,'{"actions": [{"machine": "process", "parameters": {"command": ["true"]}}], "name": "second", "executeAt": "2098-01-01T00:00:00Z", "tags": {"a": "b"}}','{"state":"scheduled","createdAt":"2026-11-21T19:27:55.971389Z","executeAt":"2098-01-01T00:00:00.000000Z","rank":1795289275.9714415}',NULL,NULL,NULL,NULL,NULL,'v1',NULL);
INSERT INTO "tasks" VALUES(5,'0000000000000005','pending',NULL,NULL,'','2026-11-21T19:27:56.306599Z',NULL,0,NULL,'{"actions": [{"machine": "process", "parameters": {"command": ["true"]}}]}','{"state":"pending","createdAt":"2026-11-21T19:27:56.306599Z","rank":1795289276.3066182}',NULL,NULL,NULL,NULL,NULL,'v1',NULL);
CREATE TABLE templates (name TEXT PRIMARY KEY, updated_at TEXT NOT NULL, data TEXT NOT NULL);
INSERT INTO "templates" VALUES('one','2026-11-21T19:27:55.986464Z','{"task": {"command": ["true"]}}');
CREATE INDEX tasks_active ON tasks (seq) WHERE outcome IS NULL OR deleted;
CREATE INDEX tasks_state ON tasks (state, seq);
CREATE INDEX tasks_outcome ON tasks (outcome, seq);
CREATE INDEX tasks_finished ON tasks (finished_at) WHERE outcome IS NOT NULL;
CREATE INDEX events_task ON events (task_id, seq);
CREATE INDEX tasks_batch ON tasks (batch, outcome) WHERE batch IS NOT NULL;
CREATE INDEX tasks_entity ON tasks (entity, seq) WHERE entity IS NOT NULL;
CREATE INDEX tasks_measure ON tasks (seq) WHERE outcome IS NOT NULL AND bytes IS NULL;
CREATE INDEX tasks_bytes ON tasks (finished_at, bytes) WHERE bytes > 0;
CREATE INDEX tasks_output ON tasks (finished_at, output_bytes) WHERE output_bytes > 0;
CREATE INDEX tasks_expiry ON tasks (outcome, finished_at) WHERE outcome IS NOT NULL AND keep_seconds IS NULL;
CREATE INDEX tasks_keep ON tasks (julianday(finished_at) + keep_seconds / 86400.0)
    WHERE outcome IS NOT NULL AND keep_seconds IS NOT NULL;
CREATE INDEX outbox_task ON outbox (task_id, seq);
CREATE INDEX outbox_due ON outbox (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX events_origin ON events (origin, at) WHERE origin IS NOT NULL;
CREATE INDEX tasks_origin ON tasks (origin, seq);
CREATE UNIQUE INDEX tasks_alias ON tasks (alias) WHERE alias IS NOT NULL AND deleted = 0;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('tasks',5);
INSERT INTO "sqlite_sequence" VALUES('events',7);
INSERT INTO "sqlite_sequence" VALUES('batches',1);
PRAGMA user_version = 3;
