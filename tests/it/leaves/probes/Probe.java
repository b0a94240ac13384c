import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** Probe PORT HOST...: a request to each host; trust comes from -Djavax.net.ssl.trustStore. */
public class Probe {
    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        for (int at = 1; at < args.length; at++) {
            URI uri = URI.create("https://" + args[at] + ":" + args[0] + "/");
            HttpResponse<String> response =
                    client.send(HttpRequest.newBuilder(uri).build(), HttpResponse.BodyHandlers.ofString());
            if (response.statusCode() != 200 || !response.body().equals("ok")) {
                throw new IllegalStateException("answered " + response.statusCode());
            }
            System.out.println("accepted " + args[at]);
        }
    }
}
