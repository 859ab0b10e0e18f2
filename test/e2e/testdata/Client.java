import java.io.ByteArrayInputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;

/** Asks a URL as java.net.http does, and prints the answers; TestInterceptClients runs it. */
public class Client {
    public static void main(String[] args) throws Exception {
        // The default offers h2c.
        ask(HttpClient.newHttpClient(), args[0] + "/default");
        ask(HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build(), args[0] + "/1.1");
    }

    static void ask(HttpClient client, String url) throws Exception {
        for (int n = 0; n < 8; n++) {
            show(client.send(request(url, n), BodyHandlers.ofString()));
        }
        List<CompletableFuture<HttpResponse<String>>> all = new ArrayList<>();
        for (int n = 0; n < 8; n++) {
            all.add(client.sendAsync(request(url + "/async", n), BodyHandlers.ofString()));
        }
        for (CompletableFuture<HttpResponse<String>> one : all) {
            show(one.get());
        }
    }

    static HttpRequest request(String url, int n) {
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url + "/" + n + "?a=%2f&b"))
                .timeout(Duration.ofSeconds(60))
                .header("X-Tele-User", n % 2 == 1 ? "alice" : "bob");
        if (n / 2 == 1) {
            request.POST(BodyPublishers.ofByteArray(new byte[100_000]));
        } else if (n / 2 == 2) {
            request.PUT(BodyPublishers.ofInputStream(() -> new ByteArrayInputStream(new byte[100_000])));
        }
        return request.build();
    }

    static void show(HttpResponse<String> answer) {
        if (answer.statusCode() != 200) {
            throw new IllegalStateException(answer.uri() + " is answered by " + answer.statusCode());
        }
        System.out.println(answer.body());
    }
}
