-- What equality.py asks the catalogs. Each query gives texts with names instead of numbers in them; both databases
-- must give the same texts, in any order. {users}: the schemas that are not the system's own. {acl}: of a row with acl,
-- owner and kind, its grants sorted, for an absent ACL and the default one spelled out are the same thing.

-- name: owners, grants and policies' roles
SELECT format('%s: %s %s', pg_describe_object(classid, objid, objsubid), deptype, refobjid::regrole)
FROM pg_shdepend WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND refclassid = 'pg_authid'::regclass;

-- name: grants
SELECT format('%s: %s', what, {acl}) FROM (
    SELECT pg_describe_object('pg_class'::regclass, oid, 0) AS what, relacl AS acl, relowner AS owner,
           CASE relkind WHEN 'S' THEN 's' ELSE 'r' END AS kind FROM pg_class
    UNION ALL SELECT pg_describe_object('pg_class'::regclass, attrelid, attnum), attacl, relowner, 'c'
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid WHERE attacl IS NOT NULL AND NOT attisdropped
    UNION ALL SELECT pg_describe_object('pg_namespace'::regclass, oid, 0), nspacl, nspowner, 'n' FROM pg_namespace
    UNION ALL SELECT pg_describe_object('pg_proc'::regclass, oid, 0), proacl, proowner, 'f' FROM pg_proc
    UNION ALL SELECT pg_describe_object('pg_type'::regclass, oid, 0), typacl, typowner, 'T' FROM pg_type
        WHERE typacl IS NOT NULL
    UNION ALL SELECT pg_describe_object('pg_language'::regclass, oid, 0), lanacl, lanowner, 'l' FROM pg_language
    UNION ALL SELECT pg_describe_object('pg_foreign_server'::regclass, oid, 0), srvacl, srvowner, 'S'
        FROM pg_foreign_server
    UNION ALL SELECT pg_describe_object('pg_foreign_data_wrapper'::regclass, oid, 0), fdwacl, fdwowner, 'F'
        FROM pg_foreign_data_wrapper
) AS granted WHERE what !~ '^(toast table|index|view information_schema|schema pg_(toast_)?temp_)';

-- name: default privileges
SELECT format('%s %s %s: %s', defaclrole::regrole, defaclnamespace::regnamespace, defaclobjtype,
              (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(defaclacl) AS a)) FROM pg_default_acl;

-- name: large objects
SELECT format('%s: owner %s, %s, %s', m.oid, lomowner::regrole, {acl}, md5(lo_get(m.oid)))
FROM (SELECT oid, lomowner, lomacl AS acl, lomowner AS owner, 'L' AS kind FROM pg_largeobject_metadata) AS m;

-- name: comments
SELECT format('%s: %L', pg_describe_object(classoid, objoid, objsubid), description) FROM pg_description;

-- name: security labels
SELECT format('%s %s: %s %L', objtype, objname, provider, label) FROM pg_seclabels;

-- name: triggers
SELECT format('%s on %s: enabled %s, %s', tgname, tgrelid::regclass, tgenabled, pg_get_triggerdef(oid))
FROM pg_trigger WHERE NOT tgisinternal;

-- name: event triggers
SELECT format('%s: enabled %s, on %s %s, %s, owner %s', evtname, evtenabled, evtevent, evttags, evtfoid::regproc,
              evtowner::regrole) FROM pg_event_trigger;

-- name: rules
SELECT format('%s on %s: enabled %s, %s', rulename, ev_class::regclass, ev_enabled, pg_get_ruledef(r.oid))
FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = ev_class JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE {users};

-- name: policies
SELECT p::text FROM pg_policies AS p;

-- name: publications
SELECT (to_jsonb(p) - 'oid' - 'pubowner')::text || pubowner::regrole FROM pg_publication AS p
UNION ALL SELECT format('%s: %s', pg_describe_object('pg_publication_rel'::regclass, oid, 0),
    concat_ws(' ', prattrs::text, pg_get_expr(prqual, prrelid))) FROM pg_publication_rel
UNION ALL SELECT pg_describe_object('pg_publication_namespace'::regclass, oid, 0) FROM pg_publication_namespace;

-- name: extended statistics
SELECT format('%s: target %s, %s', stxname, stxstattarget, pg_get_statisticsobjdef(oid))
FROM pg_statistic_ext;

-- name: extensions
SELECT format('%s %s in %s, filters %s', extname, extversion, extnamespace::regnamespace, extcondition)
FROM pg_extension
UNION ALL SELECT format('%s: %s', pg_describe_object(refclassid, refobjid, 0), pg_describe_object(classid, objid, objsubid))
FROM pg_depend WHERE deptype IN ('e', 'x');

-- name: relations
SELECT format('%s: %s %s, replica identity %s, row security %s %s, options %s %s, %s, tablespace %s, partition %s of %s',
    c.oid::regclass, c.relkind, c.relpersistence, c.relreplident, c.relrowsecurity, c.relforcerowsecurity, c.reloptions,
    t.reloptions, am.amname, (SELECT spcname FROM pg_tablespace WHERE oid = c.reltablespace),
    pg_get_expr(c.relpartbound, c.oid), (SELECT array_agg(inhparent::regclass ORDER BY inhseqno) FROM pg_inherits
                                         WHERE inhrelid = c.oid))
    || concat(', populated ', c.relispopulated, ', partitioned by ', pg_get_partkeydef(c.oid))
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid
LEFT JOIN pg_am AS am ON am.oid = c.relam WHERE {users};

-- name: columns
SELECT format('%s %s %s: %s %s, not null %s, default %s, identity %s, generated %s, %s',
    -- An index keeps the name that a column had when the index was made; pg_dump has no words for that.
    attrelid::regclass, row_number() OVER (PARTITION BY attrelid ORDER BY attnum), CASE WHEN relkind !~* 'i' THEN attname END,
    format_type(atttypid, atttypmod), attcollation::regcollation, attnotnull,
    pg_get_expr(adbin, adrelid), attidentity, attgenerated,
    concat_ws(' ', attstorage, attcompression, nullif(attstattarget, -1), attfdwoptions, attislocal, attinhcount,
              -- pg_attver is the server's own mark; it is new in every table.
              (SELECT array_agg(option ORDER BY option) FROM unnest(attoptions) AS option WHERE option !~ '^pg_attver=')))
FROM pg_attribute AS a LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
JOIN pg_class AS c ON c.oid = attrelid JOIN pg_namespace AS n ON n.oid = relnamespace
WHERE {users} AND attnum > 0 AND NOT attisdropped;

-- name: indexes
SELECT format('%s: %s, valid %s, clustered %s, replica identity %s, part of %s, statistics %s', indexrelid::regclass,
    pg_get_indexdef(indexrelid), indisvalid, indisclustered, indisreplident,
    (SELECT inhparent::regclass FROM pg_inherits WHERE inhrelid = indexrelid),
    (SELECT array_agg(attstattarget ORDER BY attnum) FROM pg_attribute WHERE attrelid = indexrelid))
FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid JOIN pg_namespace AS n ON n.oid = relnamespace WHERE {users};

-- name: constraints
SELECT format('%s on %s %s: %s, validated %s, local %s, inherited %s', conname, nullif(conrelid, 0)::regclass,
    nullif(contypid, 0)::regtype, pg_get_constraintdef(k.oid), convalidated, conislocal, coninhcount)
FROM pg_constraint AS k JOIN pg_namespace AS n ON n.oid = connamespace WHERE {users} AND contype <> 't';

-- name: functions
SELECT format('%s: %s', p.oid::regprocedure, (to_jsonb(p) - '{oid,pronamespace,proowner,prolang,proacl,prosqlbody,proargdefaults,
    prorettype,proargtypes,proallargtypes,provariadic,protrftypes,prosupport}'::text[])::text
    || md5(pg_get_function_result(p.oid) || pg_get_function_arguments(p.oid) || coalesce(pg_get_function_sqlbody(p.oid), '')))
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = pronamespace WHERE {users} AND prokind <> 'a';

-- name: enums
SELECT format('%s %s', enumtypid::regtype, array_agg(enumlabel ORDER BY enumsortorder)) FROM pg_enum GROUP BY enumtypid;
