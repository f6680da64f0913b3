-- linear
-- Federated model stay@3 for postgres, numbers db6c574989918387e3e0db6d71f19d32e54172335a3361a8d4b3943619450014
-- prediction is the probability of class '1'
-- This is a copy: erasures at its origin do not reach it
SELECT
  "id",
  "o`d""d",
  CAST(1.0e0 AS DOUBLE PRECISION) / (
    CAST(1.0e0 AS DOUBLE PRECISION) + EXP(-(
      "heliosdb_score_0"
    ))
  ) AS "prediction"
FROM (
  SELECT
    "id",
    "o`d""d",
    CAST(2.0e0 AS DOUBLE PRECISION) * CASE
      WHEN "heliosdb_score_0" > CAST(350.0e0 AS DOUBLE PRECISION)
      THEN CAST(350.0e0 AS DOUBLE PRECISION)
      WHEN "heliosdb_score_0" < (
        -CAST(350.0e0 AS DOUBLE PRECISION)
      )
      THEN (
        -CAST(350.0e0 AS DOUBLE PRECISION)
      )
      ELSE "heliosdb_score_0"
    END AS "heliosdb_score_0"
  FROM (
    SELECT
      "id",
      "o`d""d",
      CAST(0.125e0 AS DOUBLE PRECISION) + CAST(0.057597365344131006e0 AS DOUBLE PRECISION) * (
        COALESCE("heliosdb_c0", CAST(0.18905338179353307e0 AS DOUBLE PRECISION)) - CAST(2.0409191213851825e0 AS DOUBLE PRECISION)
      ) + CAST(0.13693635725019307e0 AS DOUBLE PRECISION) * (
        COALESCE("heliosdb_c1", (
          -CAST(0.5227484414807474e0 AS DOUBLE PRECISION)
        )) - (
          -CAST(2.5556650313141818e0 AS DOUBLE PRECISION)
        )
      ) + CASE
        WHEN "heliosdb_c2" IS NULL
        THEN CAST(0.7010433777795608e0 AS DOUBLE PRECISION)
        WHEN "heliosdb_c2" = CAST(0.0e0 AS DOUBLE PRECISION)
        THEN (
          -CAST(0.07803995607014301e0 AS DOUBLE PRECISION)
        )
        WHEN "heliosdb_c2" = CAST(1.0e0 AS DOUBLE PRECISION)
        THEN (
          -CAST(0.02296711003957848e0 AS DOUBLE PRECISION)
        )
        WHEN "heliosdb_c2" = CAST(2.0e0 AS DOUBLE PRECISION)
        THEN (
          -CAST(0.29523282800420314e0 AS DOUBLE PRECISION)
        )
        WHEN "heliosdb_c2" = CAST(3.0e0 AS DOUBLE PRECISION)
        THEN CAST(0.07285268837537662e0 AS DOUBLE PRECISION)
        ELSE CAST(0.7010433777795608e0 AS DOUBLE PRECISION)
      END AS "heliosdb_score_0"
    FROM (
      SELECT
        "id",
        "o`d""d",
        CAST("age" AS DOUBLE PRECISION) AS "heliosdb_c0",
        CASE
          WHEN "smoker"
          THEN CAST(1.0e0 AS DOUBLE PRECISION)
          WHEN NOT "smoker"
          THEN CAST(0.0e0 AS DOUBLE PRECISION)
        END AS "heliosdb_c1",
        CASE
          WHEN "wa`r""d" IS NULL
          THEN CAST(CAST(3.0e0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)
          ELSE CASE CAST("wa`r""d" AS TEXT)
            WHEN 'a\b'
            THEN CAST(CAST(0.0e0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)
            WHEN 'it''s'
            THEN CAST(CAST(1.0e0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)
            WHEN 'tab	'
            THEN CAST(CAST(2.0e0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)
            ELSE NULL
          END
        END AS "heliosdb_c2"
      FROM "lake"."patients"
    ) AS "heliosdb_level_0"
  ) AS "heliosdb_level_1"
) AS "heliosdb_level_2";

-- trees
-- Federated model stay@3 for postgres, numbers 97ce0a6642e31c31a57ace9b1c8a44935ac050e256041cb225a6d9e6db619c19
-- prediction is the probability of class '1'
-- This is a copy: erasures at its origin do not reach it
WITH "heliosdb_level_0" AS MATERIALIZED (
  SELECT
    CASE
      WHEN ABS(CAST("age" AS DOUBLE PRECISION)) <= CAST(1.7976931348623157e+308 AS DOUBLE PRECISION)
      THEN CAST("age" AS DOUBLE PRECISION)
    END AS "heliosdb_c0",
    CASE
      WHEN ABS(CAST("income" AS DOUBLE PRECISION)) <= CAST(1.7976931348623157e+308 AS DOUBLE PRECISION)
      THEN CAST("income" AS DOUBLE PRECISION)
    END AS "heliosdb_c1",
    CASE
      WHEN "smoker"
      THEN CAST(1.0e0 AS DOUBLE PRECISION)
      WHEN NOT "smoker"
      THEN CAST(0.0e0 AS DOUBLE PRECISION)
    END AS "heliosdb_c2",
    CASE
      WHEN "site" IS NULL
      THEN CAST(CAST(4.0e0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)
      ELSE CASE CAST("site" AS TEXT)
        WHEN ''
        THEN CAST(CAST(0.0e0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)
        WHEN 'Nord''s'
        THEN CAST(CAST(1.0e0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)
        WHEN 'north'
        THEN CAST(CAST(2.0e0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)
        WHEN 'Ω'
        THEN CAST(CAST(3.0e0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)
        ELSE CAST(CAST(5.0e0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)
      END
    END AS "heliosdb_c3",
    CASE
      WHEN "Ward" IS NULL
      THEN NULL
      ELSE CASE CAST("Ward" AS TEXT)
        WHEN 'a'
        THEN CAST(CAST(0.0e0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)
        WHEN 'b'
        THEN CAST(CAST(1.0e0 AS DOUBLE PRECISION) AS DOUBLE PRECISION)
        ELSE NULL
      END
    END AS "heliosdb_c4"
  FROM "patients"
), "heliosdb_level_1" AS MATERIALIZED (
  SELECT
    "heliosdb_c0" AS "heliosdb_i0",
    "heliosdb_c1" AS "heliosdb_i1",
    "heliosdb_c2" AS "heliosdb_i2",
    "heliosdb_c3" AS "heliosdb_i3",
    "heliosdb_c4" AS "heliosdb_i4"
  FROM "heliosdb_level_0"
), "heliosdb_level_2" AS MATERIALIZED (
  SELECT
    CAST(2.0409191213851825e0 AS DOUBLE PRECISION) + CASE
      WHEN "heliosdb_i0" IS NULL OR "heliosdb_i0" <= CAST(0.0e0 AS DOUBLE PRECISION)
      THEN CASE
        WHEN "heliosdb_i3" IN (
          CAST(0.0e0 AS DOUBLE PRECISION),
          CAST(2.0e0 AS DOUBLE PRECISION),
          CAST(3.0e0 AS DOUBLE PRECISION)
        )
        THEN CAST(0.8022026837784835e0 AS DOUBLE PRECISION)
        ELSE CAST(0.8673335518424147e0 AS DOUBLE PRECISION)
      END
      ELSE CASE
        WHEN "heliosdb_i4" IS NULL OR FALSE
        THEN CAST(0.12875967122785104e0 AS DOUBLE PRECISION)
        ELSE CAST(0.46707320673827113e0 AS DOUBLE PRECISION)
      END
    END AS "heliosdb_score_0"
  FROM "heliosdb_level_1"
), "heliosdb_level_3" AS MATERIALIZED (
  SELECT
    CASE
      WHEN "heliosdb_score_0" > CAST(700.0e0 AS DOUBLE PRECISION)
      THEN CAST(700.0e0 AS DOUBLE PRECISION)
      WHEN "heliosdb_score_0" < (
        -CAST(700.0e0 AS DOUBLE PRECISION)
      )
      THEN (
        -CAST(700.0e0 AS DOUBLE PRECISION)
      )
      ELSE "heliosdb_score_0"
    END AS "heliosdb_score_0"
  FROM "heliosdb_level_2"
)
SELECT
  CAST(1.0e0 AS DOUBLE PRECISION) / (
    CAST(1.0e0 AS DOUBLE PRECISION) + EXP(-(
      "heliosdb_score_0"
    ))
  ) AS "prediction"
FROM "heliosdb_level_3";

-- softmax
-- Federated model stay@3 for postgres, numbers 2b9aebae597ede8b5b8f51c628d2213472257a4c115e6e8be0421bbd6ab51b54
-- probability_1 is that of class 'no'
-- probability_2 is that of class "it\'s"
-- probability_3 is that of class \'per"haps\'
-- This is a copy: erasures at its origin do not reach it
WITH "heliosdb_level_0" AS MATERIALIZED (
  SELECT
    CAST("age" AS DOUBLE PRECISION) AS "heliosdb_c0"
  FROM "patients"
), "heliosdb_level_1" AS MATERIALIZED (
  SELECT
    (
      -CAST(0.4009657126267237e0 AS DOUBLE PRECISION)
    ) + (
      -CAST(0.3258955763058448e0 AS DOUBLE PRECISION)
    ) * (
      COALESCE("heliosdb_c0", CAST(0.18905338179353307e0 AS DOUBLE PRECISION)) - CAST(2.0409191213851825e0 AS DOUBLE PRECISION)
    ) AS "heliosdb_score_0",
    (
      -CAST(0.6621794978140725e0 AS DOUBLE PRECISION)
    ) + (
      -CAST(0.08735864616288858e0 AS DOUBLE PRECISION)
    ) * (
      COALESCE("heliosdb_c0", CAST(0.18905338179353307e0 AS DOUBLE PRECISION)) - CAST(2.0409191213851825e0 AS DOUBLE PRECISION)
    ) AS "heliosdb_score_1",
    (
      -CAST(0.12418081104762427e0 AS DOUBLE PRECISION)
    ) + CAST(0.8318619956955984e0 AS DOUBLE PRECISION) * (
      COALESCE("heliosdb_c0", CAST(0.18905338179353307e0 AS DOUBLE PRECISION)) - CAST(2.0409191213851825e0 AS DOUBLE PRECISION)
    ) AS "heliosdb_score_2"
  FROM "heliosdb_level_0"
), "heliosdb_level_2" AS MATERIALIZED (
  SELECT
    "heliosdb_score_0" AS "heliosdb_score_0",
    "heliosdb_score_1" AS "heliosdb_score_1",
    "heliosdb_score_2" AS "heliosdb_score_2",
    GREATEST("heliosdb_score_0", "heliosdb_score_1", "heliosdb_score_2") AS "heliosdb_best"
  FROM "heliosdb_level_1"
), "heliosdb_level_3" AS MATERIALIZED (
  SELECT
    "heliosdb_score_0" - "heliosdb_best" AS "heliosdb_score_0",
    "heliosdb_score_1" - "heliosdb_best" AS "heliosdb_score_1",
    "heliosdb_score_2" - "heliosdb_best" AS "heliosdb_score_2"
  FROM "heliosdb_level_2"
), "heliosdb_level_4" AS MATERIALIZED (
  SELECT
    EXP(
      CAST(2.0e0 AS DOUBLE PRECISION) * CASE
        WHEN "heliosdb_score_0" < (
          -CAST(350.0e0 AS DOUBLE PRECISION)
        )
        THEN (
          -CAST(350.0e0 AS DOUBLE PRECISION)
        )
        ELSE "heliosdb_score_0"
      END
    ) AS "heliosdb_score_0",
    EXP(
      CAST(2.0e0 AS DOUBLE PRECISION) * CASE
        WHEN "heliosdb_score_1" < (
          -CAST(350.0e0 AS DOUBLE PRECISION)
        )
        THEN (
          -CAST(350.0e0 AS DOUBLE PRECISION)
        )
        ELSE "heliosdb_score_1"
      END
    ) AS "heliosdb_score_1",
    EXP(
      CAST(2.0e0 AS DOUBLE PRECISION) * CASE
        WHEN "heliosdb_score_2" < (
          -CAST(350.0e0 AS DOUBLE PRECISION)
        )
        THEN (
          -CAST(350.0e0 AS DOUBLE PRECISION)
        )
        ELSE "heliosdb_score_2"
      END
    ) AS "heliosdb_score_2"
  FROM "heliosdb_level_3"
), "heliosdb_level_5" AS MATERIALIZED (
  SELECT
    "heliosdb_score_0" AS "heliosdb_score_0",
    "heliosdb_score_1" AS "heliosdb_score_1",
    "heliosdb_score_2" AS "heliosdb_score_2",
    "heliosdb_score_0" + "heliosdb_score_1" + "heliosdb_score_2" AS "heliosdb_total"
  FROM "heliosdb_level_4"
)
SELECT
  "heliosdb_score_0" / "heliosdb_total" AS "probability_1",
  "heliosdb_score_1" / "heliosdb_total" AS "probability_2",
  "heliosdb_score_2" / "heliosdb_total" AS "probability_3"
FROM "heliosdb_level_5";

