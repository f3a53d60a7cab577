-- Nine tenths of the data in one table of narrow rows, as in most databases that have grown. :rows payments are some
-- 1.9 kB each, a row here is some 150 bytes.
CREATE TABLE accounts (id int PRIMARY KEY, name text NOT NULL, settings jsonb NOT NULL);
CREATE TABLE events (
    id bigint PRIMARY KEY,
    account int NOT NULL REFERENCES accounts,
    at timestamptz NOT NULL,
    kind text NOT NULL CHECK (kind IN ('login', 'payment', 'refund')),
    amount numeric(12, 2),
    note text NOT NULL
);
INSERT INTO accounts
SELECT n, 'account ' || n, jsonb_build_object('key', md5(n::text), 'note', repeat(md5((n * 7)::text), 3))
FROM generate_series(1, :rows) AS n;
INSERT INTO events
SELECT n, 1 + n % :rows, timestamptz '2024-01-15' + n * interval '1 second', (ARRAY['login', 'payment', 'refund'])[1 + n % 3],
    n % 100000 / 100.0, md5(n::text) || ' ' || md5((n * 3)::text)
FROM generate_series(1, :rows * 9) AS n;
CREATE INDEX ON events (account, at);
CREATE INDEX ON events USING brin (at);
