-- After demo/payment_db.sql: each webhook keeps its request as it came, with its signature and a token.
--
-- Random-looking text of this kind is what real payment traffic has and the demo's rows have little of: it costs
-- gzip more than it costs pg_dump. All values follow from the row.
\set ON_ERROR_STOP on

ALTER TABLE webhooks ADD COLUMN signature text, ADD COLUMN body text;

UPDATE webhooks
   SET signature = 'sha512=' || encode(sha512(payload::text::bytea), 'hex'),
       body = jsonb_build_object(
                'event', event, 'data', payload, 'description', 'Order of school fees, mobile money',
                'token', (SELECT string_agg(translate(encode(sha512((payload::text || n)::bytea), 'base64'), E'\n', ''), '.')
                            FROM generate_series(1, 3) AS n))::text;

VACUUM FULL webhooks;
