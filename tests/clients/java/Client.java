import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.ResultSetMetaData;
import java.sql.SQLException;
import java.sql.SQLWarning;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.postgresql.util.PSQLException;
import org.postgresql.util.PSQLWarning;
import org.postgresql.util.ServerErrorMessage;

/**
 * Types what it reads into PostgreSQL's JDBC driver and prints what the driver shows, a line of JSON each.
 *
 * Arguments: JDBC URL, user, password. A line "connect MODE" opens a connection with this preferQueryMode; any
 * other line is a statement: base64 of its text, then for each parameter a tab, its kind (f, i, s) and base64.
 * "fetch " before such a line reads the result two rows at a time, within a transaction; "batch " before base64 texts
 * with tabs between them executes all in one batch, within a transaction.
 */
public final class Client {
    private final Map<String, PreparedStatement> prepared = new HashMap<>();
    private final Connection connection;

    private Client(String[] where, String mode) throws SQLException {
        Properties properties = new Properties();
        properties.setProperty("user", where[1]);
        properties.setProperty("password", where[2]);
        properties.setProperty("preferQueryMode", mode);
        // From its first execution on a statement is prepared on the server, under a name.
        properties.setProperty("prepareThreshold", "1");
        connection = DriverManager.getConnection(where[0], properties);
    }

    public static void main(String[] where) throws Exception {
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        Client client = null;
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            if (line.startsWith("connect ")) {
                if (client != null) {
                    client.connection.close();
                }
                client = new Client(where, line.substring("connect ".length()));
                out.println("{}");
            } else if (line.startsWith("fetch ")) {
                out.println(client.inTransaction(line.substring("fetch ".length()).split("\t"), client::fetched));
            } else if (line.startsWith("batch ")) {
                out.println(client.inTransaction(line.substring("batch ".length()).split("\t"), client::batched));
            } else {
                out.println(client.answer(line.split("\t")));
            }
        }
    }

    /** What is done within a transaction. */
    private interface Work {
        String of(String[] parts) throws SQLException;
    }

    private String inTransaction(String[] parts, Work work) throws SQLException {
        connection.setAutoCommit(false);
        try {
            String shown = work.of(parts);
            connection.commit();
            return shown;
        } catch (SQLException refused) {
            connection.rollback();
            return "{\"sqlstate\": " + quoted(refused.getSQLState()) + ", \"message\": "
                + quoted(refused.getMessage()) + "}";
        } finally {
            connection.setAutoCommit(true);
        }
    }

    private String fetched(String[] parts) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(decode(parts[0]))) {
            statement.setFetchSize(2);
            for (int number = 1; number < parts.length; number++) {
                bind(statement, number, parts[number].charAt(0), decode(parts[number].substring(1)));
            }
            statement.execute();
            return rows(statement);
        }
    }

    private String batched(String[] texts) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            for (String text : texts) {
                statement.addBatch(decode(text));
            }
            return "{\"counts\": " + Arrays.toString(statement.executeBatch()) + "}";
        }
    }

    private String answer(String[] parts) {
        String sql = decode(parts[0]);
        try {
            // A statement that is known already is executed again, as an application with a pool does.
            PreparedStatement statement = prepared.get(sql);
            if (statement == null) {
                statement = connection.prepareStatement(sql);
                prepared.put(sql, statement);
            }
            for (int number = 1; number < parts.length; number++) {
                bind(statement, number, parts[number].charAt(0), decode(parts[number].substring(1)));
            }
            statement.clearWarnings();
            return statement.execute() ? rows(statement) : counted(statement);
        } catch (PSQLException refused) {
            ServerErrorMessage found = refused.getServerErrorMessage();
            if (found == null) {
                return "{\"sqlstate\": " + quoted(refused.getSQLState()) + ", \"message\": "
                    + quoted(refused.getMessage()) + "}";
            }
            String position = found.getPosition() == 0 ? "null" : Integer.toString(found.getPosition());
            return "{\"sqlstate\": " + quoted(found.getSQLState()) + ", \"message\": "
                + quoted(found.getMessage()) + ", \"position\": " + position + "}";
        } catch (SQLException refused) {
            return "{\"sqlstate\": " + quoted(refused.getSQLState()) + ", \"message\": "
                + quoted(refused.getMessage()) + "}";
        }
    }

    private static void bind(PreparedStatement statement, int number, char kind, String value) throws SQLException {
        switch (kind) {
            case 'f' -> statement.setDouble(number, Double.parseDouble(value));
            case 'i' -> statement.setInt(number, Integer.parseInt(value));
            default -> statement.setString(number, value);
        }
    }

    private static String rows(PreparedStatement statement) throws SQLException {
        List<String> rows = new ArrayList<>();
        List<String> names = new ArrayList<>();
        try (ResultSet result = statement.getResultSet()) {
            ResultSetMetaData columns = result.getMetaData();
            for (int place = 1; place <= columns.getColumnCount(); place++) {
                names.add(quoted(columns.getColumnLabel(place)));
            }
            while (result.next()) {
                List<String> row = new ArrayList<>();
                for (int place = 1; place <= names.size(); place++) {
                    row.add(quoted(result.getString(place)));
                }
                rows.add(row.toString());
            }
        }
        return "{\"columns\": " + names + ", \"rows\": " + rows + ", \"notices\": " + notices(statement) + "}";
    }

    private static String counted(PreparedStatement statement) throws SQLException {
        return "{\"count\": " + statement.getUpdateCount() + ", \"notices\": " + notices(statement) + "}";
    }

    private static List<String> notices(PreparedStatement statement) throws SQLException {
        List<String> notices = new ArrayList<>();
        for (SQLWarning each = statement.getWarnings(); each != null; each = each.getNextWarning()) {
            ServerErrorMessage found = ((PSQLWarning) each).getServerErrorMessage();
            notices.add(quoted(found.getSeverity() + ": " + found.getMessage()));
        }
        return notices;
    }

    private static String decode(String text) {
        return new String(Base64.getDecoder().decode(text), StandardCharsets.UTF_8);
    }

    private static String quoted(String text) {
        if (text == null) {
            return "null";
        }
        StringBuilder quoted = new StringBuilder("\"");
        for (char each : text.toCharArray()) {
            if (each == '"' || each == '\\') {
                quoted.append('\\').append(each);
            } else if (each < ' ') {
                quoted.append(String.format("\\u%04x", (int) each));
            } else {
                quoted.append(each);
            }
        }
        return quoted.append('"').toString();
    }
}
