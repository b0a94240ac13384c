import java.net.HttpURLConnection;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;

public class Client {
    public static void main(String[] args) throws Exception {
        URI uri = URI.create(args[0]);
        var reply = HttpClient.newHttpClient().send(HttpRequest.newBuilder(uri).build(), BodyHandlers.ofString());
        System.out.println("HttpClient " + reply.version() + " " + reply.statusCode());
        var connection = (HttpURLConnection) uri.toURL().openConnection();
        System.out.println("HttpURLConnection " + connection.getResponseCode());
    }
}
