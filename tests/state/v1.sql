-- A database of version 1 as demuxai 0.1 leaves it. Never changed: every later version must open it.
PRAGMA application_id = 1684895096;
PRAGMA user_version = 1;
CREATE TABLE ledger (
    provider TEXT NOT NULL,
    key TEXT NOT NULL,
    json TEXT NOT NULL,
    updated_ms INTEGER NOT NULL,
    PRIMARY KEY (provider, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE usage (
    hour INTEGER NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    requests INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    PRIMARY KEY (hour, provider, model)
) STRICT, WITHOUT ROWID;
CREATE TABLE written (
    journal INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL
) STRICT;
INSERT INTO ledger VALUES ('mistral', 'requests/minute', '{"used":7}', 1750000000000);
INSERT INTO ledger VALUES ('mistral', 'tokens/month', '{"used":123456}', 1750000000001);
INSERT INTO ledger VALUES ('ollama-cloud', 'percent/5h', '{"used":41}', 1750000000002);
INSERT INTO usage VALUES (486111, 'mistral', 'mistral-small-latest', 7, 1000, 200, 0, 500, 1);
INSERT INTO usage VALUES (486111, 'ollama-cloud', 'gpt-oss:120b', 2, 300, 4000, 3000, 0, 0);
INSERT INTO written VALUES (-42, 99);
