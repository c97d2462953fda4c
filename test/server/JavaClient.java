import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Submits payloads of so many characters to the server that its first argument names, with the client of Java. */
public class JavaClient {
    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newHttpClient(); // Offers HTTP/2 by an Upgrade header
        for (int i = 1; i < args.length; i++) {
            String body = "{\"type\":\"kept\",\"payload\":\"" + "x".repeat(Integer.parseInt(args[i])) + "\"}";
            HttpRequest request = HttpRequest.newBuilder(URI.create(args[0] + "/api/v1/tasks"))
                .header("Content-Type", "application/json")
                .POST(HttpRequest.BodyPublishers.ofString(body))
                .build();
            HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.body());
        }
    }
}
