-- linear
-- Federated model stay@3 for snowflake, numbers db6c574989918387e3e0db6d71f19d32e54172335a3361a8d4b3943619450014
-- prediction is the probability of class '1'
-- This is a copy: erasures at its origin do not reach it
SELECT
  "id",
  "o`d""d",
  CAST(1.0e0 AS DOUBLE) / (
    CAST(1.0e0 AS DOUBLE) + EXP(-(
      "heliosdb_score_0"
    ))
  ) AS "prediction"
FROM (
  SELECT
    "id",
    "o`d""d",
    CAST(2.0e0 AS DOUBLE) * CASE
      WHEN "heliosdb_score_0" > CAST(350.0e0 AS DOUBLE)
      THEN CAST(350.0e0 AS DOUBLE)
      WHEN "heliosdb_score_0" < (
        -CAST(350.0e0 AS DOUBLE)
      )
      THEN (
        -CAST(350.0e0 AS DOUBLE)
      )
      ELSE "heliosdb_score_0"
    END AS "heliosdb_score_0"
  FROM (
    SELECT
      "id",
      "o`d""d",
      CAST(0.125e0 AS DOUBLE) + CAST(0.057597365344131006e0 AS DOUBLE) * (
        COALESCE("heliosdb_c0", CAST(0.18905338179353307e0 AS DOUBLE)) - CAST(2.0409191213851825e0 AS DOUBLE)
      ) + CAST(0.13693635725019307e0 AS DOUBLE) * (
        COALESCE("heliosdb_c1", (
          -CAST(0.5227484414807474e0 AS DOUBLE)
        )) - (
          -CAST(2.5556650313141818e0 AS DOUBLE)
        )
      ) + CASE
        WHEN "heliosdb_c2" IS NULL
        THEN CAST(0.7010433777795608e0 AS DOUBLE)
        WHEN "heliosdb_c2" = CAST(0.0e0 AS DOUBLE)
        THEN (
          -CAST(0.07803995607014301e0 AS DOUBLE)
        )
        WHEN "heliosdb_c2" = CAST(1.0e0 AS DOUBLE)
        THEN (
          -CAST(0.02296711003957848e0 AS DOUBLE)
        )
        WHEN "heliosdb_c2" = CAST(2.0e0 AS DOUBLE)
        THEN (
          -CAST(0.29523282800420314e0 AS DOUBLE)
        )
        WHEN "heliosdb_c2" = CAST(3.0e0 AS DOUBLE)
        THEN CAST(0.07285268837537662e0 AS DOUBLE)
        ELSE CAST(0.7010433777795608e0 AS DOUBLE)
      END AS "heliosdb_score_0"
    FROM (
      SELECT
        "id",
        "o`d""d",
        CAST("age" AS DOUBLE) AS "heliosdb_c0",
        CASE
          WHEN "smoker"
          THEN CAST(1.0e0 AS DOUBLE)
          WHEN NOT "smoker"
          THEN CAST(0.0e0 AS DOUBLE)
        END AS "heliosdb_c1",
        CASE
          WHEN "wa`r""d" IS NULL
          THEN CAST(CAST(3.0e0 AS DOUBLE) AS DOUBLE)
          ELSE CASE CAST("wa`r""d" AS VARCHAR)
            WHEN 'a\\b'
            THEN CAST(CAST(0.0e0 AS DOUBLE) AS DOUBLE)
            WHEN 'it\'s'
            THEN CAST(CAST(1.0e0 AS DOUBLE) AS DOUBLE)
            WHEN 'tab\t'
            THEN CAST(CAST(2.0e0 AS DOUBLE) AS DOUBLE)
            ELSE NULL
          END
        END AS "heliosdb_c2"
      FROM "lake"."patients"
    ) AS "heliosdb_level_0"
  ) AS "heliosdb_level_1"
) AS "heliosdb_level_2";

-- trees
-- Federated model stay@3 for snowflake, numbers 97ce0a6642e31c31a57ace9b1c8a44935ac050e256041cb225a6d9e6db619c19
-- prediction is the probability of class '1'
-- This is a copy: erasures at its origin do not reach it
SELECT
  CAST(1.0e0 AS DOUBLE) / (
    CAST(1.0e0 AS DOUBLE) + EXP(-(
      "heliosdb_score_0"
    ))
  ) AS "prediction"
FROM (
  SELECT
    CASE
      WHEN "heliosdb_score_0" > CAST(700.0e0 AS DOUBLE)
      THEN CAST(700.0e0 AS DOUBLE)
      WHEN "heliosdb_score_0" < (
        -CAST(700.0e0 AS DOUBLE)
      )
      THEN (
        -CAST(700.0e0 AS DOUBLE)
      )
      ELSE "heliosdb_score_0"
    END AS "heliosdb_score_0"
  FROM (
    SELECT
      CAST(2.0409191213851825e0 AS DOUBLE) + CASE
        WHEN "heliosdb_i0" IS NULL OR "heliosdb_i0" <= CAST(0.0e0 AS DOUBLE)
        THEN CASE
          WHEN "heliosdb_i3" IN (CAST(0.0e0 AS DOUBLE), CAST(2.0e0 AS DOUBLE), CAST(3.0e0 AS DOUBLE))
          THEN CAST(0.8022026837784835e0 AS DOUBLE)
          ELSE CAST(0.8673335518424147e0 AS DOUBLE)
        END
        ELSE CASE
          WHEN "heliosdb_i4" IS NULL OR FALSE
          THEN CAST(0.12875967122785104e0 AS DOUBLE)
          ELSE CAST(0.46707320673827113e0 AS DOUBLE)
        END
      END AS "heliosdb_score_0"
    FROM (
      SELECT
        "heliosdb_c0" AS "heliosdb_i0",
        "heliosdb_c1" AS "heliosdb_i1",
        "heliosdb_c2" AS "heliosdb_i2",
        "heliosdb_c3" AS "heliosdb_i3",
        "heliosdb_c4" AS "heliosdb_i4"
      FROM (
        SELECT
          CASE
            WHEN ABS(CAST("age" AS DOUBLE)) <= CAST(1.7976931348623157e+308 AS DOUBLE)
            THEN CAST("age" AS DOUBLE)
          END AS "heliosdb_c0",
          CASE
            WHEN ABS(CAST("income" AS DOUBLE)) <= CAST(1.7976931348623157e+308 AS DOUBLE)
            THEN CAST("income" AS DOUBLE)
          END AS "heliosdb_c1",
          CASE
            WHEN "smoker"
            THEN CAST(1.0e0 AS DOUBLE)
            WHEN NOT "smoker"
            THEN CAST(0.0e0 AS DOUBLE)
          END AS "heliosdb_c2",
          CASE
            WHEN "site" IS NULL
            THEN CAST(CAST(4.0e0 AS DOUBLE) AS DOUBLE)
            ELSE CASE CAST("site" AS VARCHAR)
              WHEN ''
              THEN CAST(CAST(0.0e0 AS DOUBLE) AS DOUBLE)
              WHEN 'Nord\'s'
              THEN CAST(CAST(1.0e0 AS DOUBLE) AS DOUBLE)
              WHEN 'north'
              THEN CAST(CAST(2.0e0 AS DOUBLE) AS DOUBLE)
              WHEN 'Ω'
              THEN CAST(CAST(3.0e0 AS DOUBLE) AS DOUBLE)
              ELSE CAST(CAST(5.0e0 AS DOUBLE) AS DOUBLE)
            END
          END AS "heliosdb_c3",
          CASE
            WHEN "Ward" IS NULL
            THEN NULL
            ELSE CASE CAST("Ward" AS VARCHAR)
              WHEN 'a'
              THEN CAST(CAST(0.0e0 AS DOUBLE) AS DOUBLE)
              WHEN 'b'
              THEN CAST(CAST(1.0e0 AS DOUBLE) AS DOUBLE)
              ELSE NULL
            END
          END AS "heliosdb_c4"
        FROM "patients"
      ) AS "heliosdb_level_0"
    ) AS "heliosdb_level_1"
  ) AS "heliosdb_level_2"
) AS "heliosdb_level_3";

-- softmax
-- Federated model stay@3 for snowflake, numbers 2b9aebae597ede8b5b8f51c628d2213472257a4c115e6e8be0421bbd6ab51b54
-- probability_1 is that of class 'no'
-- probability_2 is that of class "it\'s"
-- probability_3 is that of class \'per"haps\'
-- This is a copy: erasures at its origin do not reach it
SELECT
  "heliosdb_score_0" / "heliosdb_total" AS "probability_1",
  "heliosdb_score_1" / "heliosdb_total" AS "probability_2",
  "heliosdb_score_2" / "heliosdb_total" AS "probability_3"
FROM (
  SELECT
    "heliosdb_score_0" AS "heliosdb_score_0",
    "heliosdb_score_1" AS "heliosdb_score_1",
    "heliosdb_score_2" AS "heliosdb_score_2",
    "heliosdb_score_0" + "heliosdb_score_1" + "heliosdb_score_2" AS "heliosdb_total"
  FROM (
    SELECT
      EXP(
        CAST(2.0e0 AS DOUBLE) * CASE
          WHEN "heliosdb_score_0" < (
            -CAST(350.0e0 AS DOUBLE)
          )
          THEN (
            -CAST(350.0e0 AS DOUBLE)
          )
          ELSE "heliosdb_score_0"
        END
      ) AS "heliosdb_score_0",
      EXP(
        CAST(2.0e0 AS DOUBLE) * CASE
          WHEN "heliosdb_score_1" < (
            -CAST(350.0e0 AS DOUBLE)
          )
          THEN (
            -CAST(350.0e0 AS DOUBLE)
          )
          ELSE "heliosdb_score_1"
        END
      ) AS "heliosdb_score_1",
      EXP(
        CAST(2.0e0 AS DOUBLE) * CASE
          WHEN "heliosdb_score_2" < (
            -CAST(350.0e0 AS DOUBLE)
          )
          THEN (
            -CAST(350.0e0 AS DOUBLE)
          )
          ELSE "heliosdb_score_2"
        END
      ) AS "heliosdb_score_2"
    FROM (
      SELECT
        "heliosdb_score_0" - "heliosdb_best" AS "heliosdb_score_0",
        "heliosdb_score_1" - "heliosdb_best" AS "heliosdb_score_1",
        "heliosdb_score_2" - "heliosdb_best" AS "heliosdb_score_2"
      FROM (
        SELECT
          "heliosdb_score_0" AS "heliosdb_score_0",
          "heliosdb_score_1" AS "heliosdb_score_1",
          "heliosdb_score_2" AS "heliosdb_score_2",
          GREATEST("heliosdb_score_0", "heliosdb_score_1", "heliosdb_score_2") AS "heliosdb_best"
        FROM (
          SELECT
            (
              -CAST(0.4009657126267237e0 AS DOUBLE)
            ) + (
              -CAST(0.3258955763058448e0 AS DOUBLE)
            ) * (
              COALESCE("heliosdb_c0", CAST(0.18905338179353307e0 AS DOUBLE)) - CAST(2.0409191213851825e0 AS DOUBLE)
            ) AS "heliosdb_score_0",
            (
              -CAST(0.6621794978140725e0 AS DOUBLE)
            ) + (
              -CAST(0.08735864616288858e0 AS DOUBLE)
            ) * (
              COALESCE("heliosdb_c0", CAST(0.18905338179353307e0 AS DOUBLE)) - CAST(2.0409191213851825e0 AS DOUBLE)
            ) AS "heliosdb_score_1",
            (
              -CAST(0.12418081104762427e0 AS DOUBLE)
            ) + CAST(0.8318619956955984e0 AS DOUBLE) * (
              COALESCE("heliosdb_c0", CAST(0.18905338179353307e0 AS DOUBLE)) - CAST(2.0409191213851825e0 AS DOUBLE)
            ) AS "heliosdb_score_2"
          FROM (
            SELECT
              CAST("age" AS DOUBLE) AS "heliosdb_c0"
            FROM "patients"
          ) AS "heliosdb_level_0"
        ) AS "heliosdb_level_1"
      ) AS "heliosdb_level_2"
    ) AS "heliosdb_level_3"
  ) AS "heliosdb_level_4"
) AS "heliosdb_level_5";

