-- Row level security: on, forced, and policies of every kind.
CREATE SCHEMA row_security;
SET search_path = row_security;

CREATE TABLE accounts (id int PRIMARY KEY, holder text, secret text);
INSERT INTO accounts SELECT n, 'content_' || n % 5, 's' || n FROM generate_series(1, 50) AS n;
ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE accounts FORCE ROW LEVEL SECURITY;
CREATE POLICY own_rows ON accounts USING (holder = current_user) WITH CHECK (holder = current_user);
CREATE POLICY clerks_read ON accounts AS PERMISSIVE FOR SELECT TO content_clerk, content_owner USING (true);
CREATE POLICY never_secret ON accounts AS RESTRICTIVE FOR UPDATE TO content_clerk USING (secret IS NOT NULL);
CREATE POLICY "no 'new' ones" ON accounts AS RESTRICTIVE FOR INSERT WITH CHECK (EXISTS (SELECT FROM accounts AS a WHERE a.id < 0));

CREATE TABLE on_without_policy (v int);
INSERT INTO on_without_policy VALUES (1);
ALTER TABLE on_without_policy ENABLE ROW LEVEL SECURITY;
CREATE TABLE policy_but_off (v int);
CREATE POLICY sleeping ON policy_but_off FOR DELETE USING (v > 1);
CREATE TABLE forced_but_off (v int);
ALTER TABLE forced_but_off FORCE ROW LEVEL SECURITY;
-- Its owner is subject to the policies too; a restore must get its rows all the same.
ALTER TABLE accounts OWNER TO content_owner;
