-- For a EUC_JP database.
SET client_encoding = 'UTF8';
CREATE TABLE "顧客" ("名前" text, v text);
INSERT INTO "顧客" VALUES ('日本語', 'ア'), ('表示', 'ソ'), ('能', E'\\.'), ('~\', NULL);
CREATE INDEX ON "顧客" ("名前");
COMMENT ON TABLE "顧客" IS 'お客様の表';
COMMENT ON DATABASE in_euc_jp IS 'データベース';
