-- Times are milliseconds since 1970 (UTC), by the clock of the server.
CREATE TABLE device (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    first_seen INTEGER NOT NULL,
    -- The epoch of the report that is current.
    epoch TEXT NOT NULL,
    -- From when until when two devices seem to have this identity.
    conflict_from INTEGER,
    conflict_until INTEGER
) STRICT;

-- Epochs that came back after another one had followed. One may: reports of a device whose disk was full have an epoch of their own. Where two
-- do, two devices take turns.
CREATE TABLE returned (
    device INTEGER NOT NULL REFERENCES device,
    epoch TEXT NOT NULL,
    PRIMARY KEY (device, epoch)
) STRICT, WITHOUT ROWID;

-- Which numbers of an epoch have arrived: ranges, so that a year of reports is one row.
CREATE TABLE received (
    device INTEGER NOT NULL REFERENCES device,
    epoch TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    PRIMARY KEY (device, epoch, last)
) STRICT, WITHOUT ROWID;

-- What a device said, and from when until when it was the last thing known about it.
CREATE TABLE report (
    number INTEGER PRIMARY KEY,
    device INTEGER NOT NULL REFERENCES device,
    from_at INTEGER NOT NULL,
    -- 9223372036854775807 while it is current.
    until_at INTEGER NOT NULL,
    epoch TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    -- By the clock of the device.
    sent_at INTEGER NOT NULL,
    digest TEXT NOT NULL,
    state TEXT NOT NULL,
    agent_version TEXT NOT NULL,
    app_version TEXT NOT NULL,
    policy TEXT NOT NULL,
    system TEXT NOT NULL
) STRICT;
CREATE INDEX report_of_device ON report (device, from_at);
CREATE UNIQUE INDEX report_one_current ON report (device) WHERE until_at = 9223372036854775807;
-- All that the overview reads of the present.
CREATE INDEX report_current ON report (device, state, agent_version, app_version, policy, system, until_at)
    WHERE until_at = 9223372036854775807;

-- Reports as they came, compressed with Zstandard. Apart from the rest, which is read again and again.
CREATE TABLE body (
    report INTEGER PRIMARY KEY REFERENCES report,
    bytes BLOB NOT NULL
) STRICT;

CREATE TABLE problem (
    report INTEGER NOT NULL REFERENCES report,
    code TEXT NOT NULL,
    severity TEXT NOT NULL,
    PRIMARY KEY (report, code)
) STRICT, WITHOUT ROWID;
CREATE INDEX problem_code ON problem (code, report);

-- From when until when a device has kept its promises. The last one grows with each report and heartbeat.
CREATE TABLE presence (
    device INTEGER NOT NULL REFERENCES device,
    since INTEGER NOT NULL,
    last INTEGER NOT NULL,
    until INTEGER NOT NULL,
    PRIMARY KEY (device, since)
) STRICT, WITHOUT ROWID;
