-- linear
-- Federated model stay@3 for mysql, numbers db6c574989918387e3e0db6d71f19d32e54172335a3361a8d4b3943619450014
-- prediction is the probability of class '1'
-- This is a copy: erasures at its origin do not reach it
SELECT
  `id`,
  `o``d"d`,
  1.0e0 / (
    1.0e0 + EXP(-(
      `heliosdb_score_0`
    ))
  ) AS `prediction`
FROM (
  SELECT
    `id`,
    `o``d"d`,
    2.0e0 * CASE
      WHEN `heliosdb_score_0` > 350.0e0
      THEN 350.0e0
      WHEN `heliosdb_score_0` < (
        -350.0e0
      )
      THEN (
        -350.0e0
      )
      ELSE `heliosdb_score_0`
    END AS `heliosdb_score_0`
  FROM (
    SELECT
      `id`,
      `o``d"d`,
      0.125e0 + 0.057597365344131006e0 * (
        COALESCE(`heliosdb_c0`, 0.18905338179353307e0) - 2.0409191213851825e0
      ) + 0.13693635725019307e0 * (
        COALESCE(`heliosdb_c1`, (
          -0.5227484414807474e0
        )) - (
          -2.5556650313141818e0
        )
      ) + CASE
        WHEN `heliosdb_c2` IS NULL
        THEN 0.7010433777795608e0
        WHEN `heliosdb_c2` = 0.0e0
        THEN (
          -0.07803995607014301e0
        )
        WHEN `heliosdb_c2` = 1.0e0
        THEN (
          -0.02296711003957848e0
        )
        WHEN `heliosdb_c2` = 2.0e0
        THEN (
          -0.29523282800420314e0
        )
        WHEN `heliosdb_c2` = 3.0e0
        THEN 0.07285268837537662e0
        ELSE 0.7010433777795608e0
      END AS `heliosdb_score_0`
    FROM (
      SELECT
        `id`,
        `o``d"d`,
        CAST(`age` AS DOUBLE) AS `heliosdb_c0`,
        CASE WHEN `smoker` THEN 1.0e0 WHEN NOT `smoker` THEN 0.0e0 END AS `heliosdb_c1`,
        CASE
          WHEN `wa``r"d` IS NULL
          THEN CAST(3.0e0 AS DOUBLE)
          ELSE CASE CAST(`wa``r"d` AS CHAR) COLLATE utf8mb4_0900_bin
            WHEN 'a\\b'
            THEN CAST(0.0e0 AS DOUBLE)
            WHEN 'it''s'
            THEN CAST(1.0e0 AS DOUBLE)
            WHEN 'tab\t'
            THEN CAST(2.0e0 AS DOUBLE)
            ELSE NULL
          END
        END AS `heliosdb_c2`
      FROM `lake`.`patients`
    ) AS `heliosdb_level_0`
  ) AS `heliosdb_level_1`
) AS `heliosdb_level_2`;

-- trees
-- Federated model stay@3 for mysql, numbers 97ce0a6642e31c31a57ace9b1c8a44935ac050e256041cb225a6d9e6db619c19
-- prediction is the probability of class '1'
-- This is a copy: erasures at its origin do not reach it
SELECT
  1.0e0 / (
    1.0e0 + EXP(-(
      `heliosdb_score_0`
    ))
  ) AS `prediction`
FROM (
  SELECT
    CASE
      WHEN `heliosdb_score_0` > 700.0e0
      THEN 700.0e0
      WHEN `heliosdb_score_0` < (
        -700.0e0
      )
      THEN (
        -700.0e0
      )
      ELSE `heliosdb_score_0`
    END AS `heliosdb_score_0`
  FROM (
    SELECT
      2.0409191213851825e0 + CASE
        WHEN `heliosdb_i0` IS NULL OR `heliosdb_i0` <= 0.0e0
        THEN CASE
          WHEN `heliosdb_i3` IN (0.0e0, 2.0e0, 3.0e0)
          THEN 0.8022026837784835e0
          ELSE 0.8673335518424147e0
        END
        ELSE CASE
          WHEN `heliosdb_i4` IS NULL OR FALSE
          THEN 0.12875967122785104e0
          ELSE 0.46707320673827113e0
        END
      END AS `heliosdb_score_0`
    FROM (
      SELECT
        `heliosdb_c0` AS `heliosdb_i0`,
        `heliosdb_c1` AS `heliosdb_i1`,
        `heliosdb_c2` AS `heliosdb_i2`,
        `heliosdb_c3` AS `heliosdb_i3`,
        `heliosdb_c4` AS `heliosdb_i4`
      FROM (
        SELECT
          CASE
            WHEN ABS(CAST(`age` AS DOUBLE)) <= 1.7976931348623157e+308
            THEN CAST(`age` AS DOUBLE)
          END AS `heliosdb_c0`,
          CASE
            WHEN ABS(CAST(`income` AS DOUBLE)) <= 1.7976931348623157e+308
            THEN CAST(`income` AS DOUBLE)
          END AS `heliosdb_c1`,
          CASE WHEN `smoker` THEN 1.0e0 WHEN NOT `smoker` THEN 0.0e0 END AS `heliosdb_c2`,
          CASE
            WHEN `site` IS NULL
            THEN CAST(4.0e0 AS DOUBLE)
            ELSE CASE CAST(`site` AS CHAR) COLLATE utf8mb4_0900_bin
              WHEN ''
              THEN CAST(0.0e0 AS DOUBLE)
              WHEN 'Nord''s'
              THEN CAST(1.0e0 AS DOUBLE)
              WHEN 'north'
              THEN CAST(2.0e0 AS DOUBLE)
              WHEN 'Ω'
              THEN CAST(3.0e0 AS DOUBLE)
              ELSE CAST(5.0e0 AS DOUBLE)
            END
          END AS `heliosdb_c3`,
          CASE
            WHEN `Ward` IS NULL
            THEN NULL
            ELSE CASE CAST(`Ward` AS CHAR) COLLATE utf8mb4_0900_bin
              WHEN 'a'
              THEN CAST(0.0e0 AS DOUBLE)
              WHEN 'b'
              THEN CAST(1.0e0 AS DOUBLE)
              ELSE NULL
            END
          END AS `heliosdb_c4`
        FROM `patients`
      ) AS `heliosdb_level_0`
    ) AS `heliosdb_level_1`
  ) AS `heliosdb_level_2`
) AS `heliosdb_level_3`;

-- softmax
-- Federated model stay@3 for mysql, numbers 2b9aebae597ede8b5b8f51c628d2213472257a4c115e6e8be0421bbd6ab51b54
-- probability_1 is that of class 'no'
-- probability_2 is that of class "it\'s"
-- probability_3 is that of class \'per"haps\'
-- This is a copy: erasures at its origin do not reach it
SELECT
  `heliosdb_score_0` / `heliosdb_total` AS `probability_1`,
  `heliosdb_score_1` / `heliosdb_total` AS `probability_2`,
  `heliosdb_score_2` / `heliosdb_total` AS `probability_3`
FROM (
  SELECT
    `heliosdb_score_0` AS `heliosdb_score_0`,
    `heliosdb_score_1` AS `heliosdb_score_1`,
    `heliosdb_score_2` AS `heliosdb_score_2`,
    `heliosdb_score_0` + `heliosdb_score_1` + `heliosdb_score_2` AS `heliosdb_total`
  FROM (
    SELECT
      EXP(
        2.0e0 * CASE
          WHEN `heliosdb_score_0` < (
            -350.0e0
          )
          THEN (
            -350.0e0
          )
          ELSE `heliosdb_score_0`
        END
      ) AS `heliosdb_score_0`,
      EXP(
        2.0e0 * CASE
          WHEN `heliosdb_score_1` < (
            -350.0e0
          )
          THEN (
            -350.0e0
          )
          ELSE `heliosdb_score_1`
        END
      ) AS `heliosdb_score_1`,
      EXP(
        2.0e0 * CASE
          WHEN `heliosdb_score_2` < (
            -350.0e0
          )
          THEN (
            -350.0e0
          )
          ELSE `heliosdb_score_2`
        END
      ) AS `heliosdb_score_2`
    FROM (
      SELECT
        `heliosdb_score_0` - `heliosdb_best` AS `heliosdb_score_0`,
        `heliosdb_score_1` - `heliosdb_best` AS `heliosdb_score_1`,
        `heliosdb_score_2` - `heliosdb_best` AS `heliosdb_score_2`
      FROM (
        SELECT
          `heliosdb_score_0` AS `heliosdb_score_0`,
          `heliosdb_score_1` AS `heliosdb_score_1`,
          `heliosdb_score_2` AS `heliosdb_score_2`,
          GREATEST(`heliosdb_score_0`, `heliosdb_score_1`, `heliosdb_score_2`) AS `heliosdb_best`
        FROM (
          SELECT
            (
              -0.4009657126267237e0
            ) + (
              -0.3258955763058448e0
            ) * (
              COALESCE(`heliosdb_c0`, 0.18905338179353307e0) - 2.0409191213851825e0
            ) AS `heliosdb_score_0`,
            (
              -0.6621794978140725e0
            ) + (
              -0.08735864616288858e0
            ) * (
              COALESCE(`heliosdb_c0`, 0.18905338179353307e0) - 2.0409191213851825e0
            ) AS `heliosdb_score_1`,
            (
              -0.12418081104762427e0
            ) + 0.8318619956955984e0 * (
              COALESCE(`heliosdb_c0`, 0.18905338179353307e0) - 2.0409191213851825e0
            ) AS `heliosdb_score_2`
          FROM (
            SELECT
              CAST(`age` AS DOUBLE) AS `heliosdb_c0`
            FROM `patients`
          ) AS `heliosdb_level_0`
        ) AS `heliosdb_level_1`
      ) AS `heliosdb_level_2`
    ) AS `heliosdb_level_3`
  ) AS `heliosdb_level_4`
) AS `heliosdb_level_5`;

